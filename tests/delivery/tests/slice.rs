//! A slice of the campaign: a few records through each fault, to our own receivers.

use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_rig::product;

/// Where records arrive without the packages of others.
const PLACES: [&str; 7] = ["event log", "json", "syslog", "forward", "http ", "tls", "https"];

fn campaign() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panoptes-delivery"));
    command.arg("run");
    command
}

#[test]
fn a_few_records_survive_each_fault() {
    let program = product::program().expect("the program was built");
    let output = bounded::output_within(
        campaign()
            .args(["--records", "20000", "--restarts", "3", "--freeze", "2", "--program"])
            .arg(program),
        bounded::LONG,
    )
    .expect("the campaign starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{messages}");
    println!("{text}");
    assert_rows(&text);
}

/// Each fault has a row for each place. One may be left out only where nothing can be mounted.
fn assert_rows(text: &str) {
    let list = bounded::output(campaign().args(["--list", "--program", "panoptes"]));
    let list = String::from_utf8(list.expect("the list comes").stdout).expect("it is text");
    let faults: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(faults.len() > 10, "{list}");
    let mut expected = 1;
    for fault in faults {
        let rows: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(fault)).collect();
        let rows: Vec<_> = rows.into_iter().filter(|row| row.starts_with(' ')).collect();
        if let [row] = rows[..] {
            assert!(row.contains("left out") && !can_mount(), "{fault}: {text}");
        } else {
            let is_of = |row: &&str, place| row.trim_start().starts_with(place);
            let count = |place| rows.iter().filter(|row| is_of(row, place)).count();
            assert_eq!(PLACES.map(count), [1; PLACES.len()], "{fault}: {text}");
        }
        expected += rows.len();
    }
    assert_eq!(text.lines().count(), expected, "{text}");
}

/// Whether a file system can be mounted, as the campaign does it.
fn can_mount() -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    ways.into_iter().any(|way| {
        let mut command = Command::new("unshare");
        command.args(way).args(["mount", "-t", "tmpfs", "tmpfs"]).arg(folder.path());
        bounded::output(&mut command).is_ok_and(|output| output.status.success())
    })
}
