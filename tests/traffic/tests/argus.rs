//! Real argus against the truth.

mod exceptions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use exceptions::{EXCEPTIONS, UNOPENED};
use panoptes_traffic::{
    Argus, BEGIN_NS, Between, Capture, Clock, Flow, Row, Tcp, Tolerance, differences, kinds, wrong,
};
use tempfile::TempDir;

/// Argus sleeps for a second in each run, so many run at a time.
const THREADS: usize = 24;
/// Application bytes, and a status interval that is longer than each capture.
const OPTIONS: &[&str] = &["-A", "-S", "3600"];

fn installed() -> (Argus, TempDir) {
    let argus = Argus::find().unwrap_or_else(|error| panic!("{error}"));
    (argus, tempfile::tempdir().expect("a folder"))
}

/// The records that argus makes of a capture.
fn records(argus: &Argus, folder: &Path, name: &str, pcap: &[u8], options: &[&str]) -> Vec<Row> {
    let name = name.replace(' ', "-");
    let file = folder.join(format!("{name}.pcap"));
    let records = folder.join(format!("{name}.argus"));
    std::fs::write(&file, pcap).expect("the capture can be written");
    argus.argus(&file, options, &records).expect("argus reads the capture");
    argus.ra(&records).expect("ra reads the records")
}

/// Does something with each item, many at a time.
fn each<T: Send>(items: Vec<T>, act: impl Fn(T) + Sync) {
    let items = Mutex::new(items.into_iter());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let next = items.lock().expect("no thread panics here").next();
                    let Some(item) = next else { break };
                    act(item);
                }
            });
        }
    });
}

#[test]
fn argus_agrees_with_the_truth_of_each_kind() {
    let (argus, folder) = installed();
    let found = Mutex::new(Vec::new());
    each(kinds(), |(name, capture)| {
        let pcap = capture.pcap(Clock::Microseconds);
        let rows = records(&argus, folder.path(), name, &pcap, OPTIONS);
        let is_opened = !UNOPENED.iter().any(|(kind, _)| *kind == name);
        let flows = if is_opened { capture.flows() } else { capture.outer_flows() };
        assert!(!flows.is_empty(), "{name}");
        let wrong = wrong(flows, &rows);
        let wrong = wrong.into_iter().map(|(field, text)| (name, field, text));
        found.lock().expect("no thread panics here").extend(wrong);
    });
    let found = found.into_inner().expect("no thread panicked");
    let expected: BTreeMap<_, _> = EXCEPTIONS
        .iter()
        .flat_map(|exception| {
            let reason = exception.reason;
            let pairs =
                move |&kind| exception.fields.iter().map(move |&field| ((kind, field), reason));
            exception.kinds.iter().flat_map(pairs)
        })
        .collect();
    let new: Vec<String> = found
        .iter()
        .filter(|(kind, field, _)| !expected.contains_key(&(*kind, *field)))
        .map(|(kind, field, text)| format!("{kind} | {field} | {text}"))
        .collect();
    let seen: BTreeSet<_> = found.iter().map(|(kind, field, _)| (*kind, *field)).collect();
    let gone: Vec<_> = expected.iter().filter(|(pair, _)| !seen.contains(pair)).collect();
    assert!(new.is_empty(), "argus is wrong in ways that are not listed:\n{}", new.join("\n"));
    assert!(gone.is_empty(), "to be removed from the list of exceptions: {gone:?}");
}

/// A flow as argus would be right to report it, where the exceptions apply to mixes, too.
fn with_exceptions(mut flow: Flow) -> Flow {
    if flow.protocol == "icmp" {
        // Ids are reversed.
        if let Some(digits) = flow.destination_port.strip_prefix("0x") {
            flow.destination_port = format!("0x{}{}", &digits[2..], &digits[..2]);
        }
    }
    flow
}

/// Whether an exception applies to what is wrong in a mix.
fn is_excepted(field: &str, text: &str, unreachable: &BTreeSet<String>) -> bool {
    let key = text.split(": ").next().unwrap_or_default();
    let protocol = text.split(' ').next().unwrap_or_default();
    match protocol {
        "arp" => matches!(field, "sappbytes" | "dappbytes"),
        "icmp" => field == "sappbytes" && text.contains("0x0303"),
        "udp" => field == "ltime" && unreachable.contains(key),
        _ => false,
    }
}

/// The keys of the UDP flows that drew an ICMP error: the error's port is the flow's.
fn unreachable(flows: &[Flow]) -> BTreeSet<String> {
    let errors = flows.iter().filter(|flow| flow.source_port == "0x0303");
    let ends: Vec<_> = errors.map(|error| (&error.source, &error.destination)).collect();
    let drew = |flow: &&Flow| {
        flow.protocol == "udp"
            && flow.packets == [1, 0]
            && ends.contains(&(&flow.destination, &flow.source))
    };
    flows.iter().filter(drew).map(|flow| flow.key().join(" ")).collect()
}

#[test]
fn argus_agrees_with_the_truth_of_mixes() {
    let (argus, folder) = installed();
    each((1..=6).collect(), |seed: u64| {
        let capture = Capture::mix(seed, 300);
        assert!(capture.flows().len() >= 300);
        let pcap = capture.pcap(Clock::Microseconds);
        let rows = records(&argus, folder.path(), &format!("mix {seed}"), &pcap, OPTIONS);
        let unreachable = unreachable(capture.flows());
        let flows: Vec<Flow> = capture.flows().iter().cloned().map(with_exceptions).collect();
        let wrong: Vec<_> = wrong(&flows, &rows)
            .into_iter()
            .filter(|(field, text)| !is_excepted(field, text, &unreachable))
            .collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    });
}

/// Headers are enough for argus, and so for the comparison of two record files.
#[test]
fn snapped_packets_make_the_same_records() {
    let (argus, folder) = installed();
    let mut pcaps = vec![("whole", Capture::mix_of_packets(7, 3000, None))];
    pcaps.push(("snapped", Capture::mix_of_packets(7, 3000, Some(96))));
    let all = Mutex::new(Vec::new());
    each(pcaps, |(name, capture)| {
        let pcap = capture.pcap(Clock::Microseconds);
        let rows = records(&argus, folder.path(), name, &pcap, &["-AJZm", "-S", "3600"]);
        all.lock().expect("no thread panics here").push((name, rows));
    });
    let mut all = all.into_inner().expect("no thread panicked");
    all.sort_by_key(|(name, _)| *name);
    let [(_, snapped), (_, whole)] = &all[..] else { panic!("{} files", all.len()) };
    assert!(whole.len() > 100);
    let found = differences(whole, snapped, Tolerance::default(), &[]);
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
}

/// Argus reports a long flow every five seconds. Merged, the records are the flow.
#[test]
fn merged_records_are_the_whole_flow() {
    let (argus, folder) = installed();
    let (_, capture) = kinds().into_iter().find(|(name, _)| *name == "tcp long").expect("a kind");
    let pcap = capture.pcap(Clock::Microseconds);
    let rows = records(&argus, folder.path(), "long", &pcap, &["-A", "-S", "5"]);
    assert!((6..=8).contains(&rows.len()), "{} records", rows.len());
    let file = |name: &str| folder.path().join(name);
    argus.rasort(&file("long.argus"), "ltime", &file("sorted.argus")).expect("rasort works");
    assert_eq!(argus.ra(&file("sorted.argus")).expect("ra works").len(), rows.len());
    argus.racluster(&file("sorted.argus"), &file("merged.argus")).expect("racluster works");
    let merged = argus.ra(&file("merged.argus")).expect("ra works");
    assert_eq!(wrong(capture.flows(), &merged), []);
}

/// Argus 3 cuts nanoseconds to microseconds.
#[test]
fn nanoseconds_are_cut() {
    let (argus, folder) = installed();
    let between = Between::v4(1, [40000, 443]);
    let capture = Capture::of(&Tcp::new(between, BEGIN_NS + 1_999));
    let pcap = capture.pcap(Clock::Nanoseconds);
    let rows = records(&argus, folder.path(), "nanoseconds", &pcap, OPTIONS);
    assert_eq!(rows[0].nanoseconds("stime"), BEGIN_NS + 1_000);
    assert_eq!(wrong(capture.flows(), &rows), []);
}
