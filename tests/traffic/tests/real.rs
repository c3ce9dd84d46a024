//! A capture of real programs has their conversations, and leaves nothing behind.

use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_traffic::{Argus, Contact, NoCapture, Row, real_capture};

fn is_of(row: &Row, contact: &Contact) -> bool {
    let ends = [("saddr", "sport"), ("daddr", "dport")];
    row.text("proto") == contact.protocol
        && ends.iter().any(|(address, port)| {
            row.text(address) == contact.server
                && (contact.port.is_empty() || row.text(port) == contact.port)
        })
}

#[test]
fn a_real_capture_has_the_conversations_of_its_programs() {
    let folder = tempfile::tempdir().expect("a folder");
    let [file, records] = ["real.pcap", "real.argus"].map(|name| folder.path().join(name));
    let real = match real_capture(&file, None) {
        Ok(real) => real,
        Err(NoCapture::NotPermitted(error)) => {
            panoptes_needs::skip::test_for("network namespaces", error);
            return;
        }
        Err(NoCapture::Failed(error)) => panic!("{error}"),
    };
    println!("not installed: {}", real.missing.join(", "));
    assert!(real.lost > 0 && real.reordered > 0, "{} {}", real.lost, real.reordered);
    let argus = Argus::find().unwrap_or_else(|error| panic!("{error}"));
    argus.argus(&file, &["-A", "-S", "3600"], &records).expect("argus reads the capture");
    let rows = argus.ra(&records).expect("ra reads the records");
    assert!(real.contacts.len() >= 5, "{:?}", real.contacts);
    for contact in &real.contacts {
        let keys: Vec<_> = rows.iter().map(|row| row.text("proto").to_owned()).collect();
        assert!(rows.iter().any(|row| is_of(row, contact)), "{contact:?} in {keys:?}");
    }
    let download = |row: &&Row| row.text("dport") == "8080" && row.number("dappbytes") > 390_000;
    let lost: u64 = rows.iter().filter(download).map(|row| row.number("dloss")).sum();
    assert!(lost > 0, "argus sees no loss");
    let namespaces = bounded::output(Command::new("ip").args(["netns", "list"])).expect("ip runs");
    let own = format!("panoptes-{}-", std::process::id());
    assert!(!String::from_utf8_lossy(&namespaces.stdout).contains(&own));
}
