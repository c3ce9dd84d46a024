//! Argus 3, and argus 5 of Debian 13: what each sensor makes of each kind of conversation, and our
//! records in the same form, both read by the clients of that version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use panoptes_rig::boxes;
use panoptes_traffic::{Argus, Capture, Row, Tolerance, differences, kinds};

use super::{REVERSED, Sensor, agree_with_five};

/// Argus sleeps for a second in each run, so many run at a time.
const THREADS: usize = 24;

/// Fields of kinds in which we differ from argus 3, from argus 5, or from both, and why.
struct Known {
    versions: &'static [u8],
    kinds: &'static [&'static str],
    fields: &'static [&'static str],
    reason: &'static str,
}

const fn known(
    versions: &'static [u8],
    kinds: &'static [&'static str],
    fields: &'static [&'static str],
    reason: &'static str,
) -> Known {
    Known { versions, kinds, fields, reason }
}

const BOTH: &[u8] = &[3, 5];
const REUSED: &[&str] = &["ltime", "sintpkt", "dintpkt", "sjit", "djit", "flgs"];

const KNOWN: &[Known] = &[
    known(
        &[5],
        &[
            "dns over ipv6",
            "tcp over ipv6",
            "tcp over ipv6 from the higher address",
            "tcp over ipv6 with hop-by-hop options",
            "udp over ipv6",
            "vlan with ipv6",
        ],
        &["stos", "dtos", "sttl", "dttl"],
        "argus 5 takes the header behind IPv6 for that of IPv6",
    ),
    known(
        &[5],
        &[
            "fragments over ipv6",
            "fragments reversed over ipv6",
            "icmpv6 time exceeded",
            "udp unreachable over ipv6",
        ],
        &["stos", "sttl"],
        "argus 5 takes the header behind IPv6 for that of IPv6",
    ),
    known(
        &[5],
        &[
            "icmpv6 echo",
            "icmpv6 echo from the higher address",
            "icmpv6 echo with lost replies",
            "icmpv6 missing neighbour",
            "icmpv6 neighbour",
            "icmpv6 router",
            "icmpv6 time exceeded",
            "udp unreachable over ipv6",
        ],
        &["record"],
        "argus 5 writes no addresses of ICMPv6",
    ),
    known(
        BOTH,
        &["icmpv6 time exceeded", "udp unreachable over ipv6"],
        &["flgs", "ltime"],
        "errors of ICMPv6 refer to the flow that they quote, as those of ICMP",
    ),
    known(
        &[5],
        &["tcp keep-alive", "tcp long"],
        &["sjit", "djit"],
        "argus 5 subtracts squares in single precision: nothing is left, or less than nothing",
    ),
    known(
        &[5],
        &["dns over ipv6"],
        &["sjit", "djit"],
        "argus 5 subtracts squares in single precision",
    ),
    known(
        &[5],
        &["esp from the higher address", "rtp", "rtp with a gap", "tcp unanswered"],
        &["sjit"],
        "argus 5 subtracts squares in single precision",
    ),
    known(&[5], &["udp"], &["djit"], "argus 5 subtracts squares in single precision"),
    known(
        BOTH,
        &["arp", "arp from the higher address"],
        &["sappbytes", "dappbytes"],
        "argus counts the Ethernet header; ARP carries nothing",
    ),
    known(
        BOTH,
        &["arp gratuitous", "arp unanswered"],
        &["sappbytes"],
        "argus counts the Ethernet header; ARP carries nothing",
    ),
    known(
        BOTH,
        &["ethertype unknown to a higher address"],
        &["sappbytes"],
        "argus counts the frame; nothing is known of the data",
    ),
    known(
        &[5],
        &["ethertype unknown", "llc stp", "lldp"],
        &["sappbytes"],
        "argus counts the frame; nothing is known of the data",
    ),
    known(
        &[3],
        &["ethertype unknown", "llc stp", "lldp"],
        &["record"],
        "the lower hardware address is the source in argus 3",
    ),
    known(
        BOTH,
        &["rarp"],
        &["record", "dpkts", "dbytes", "dmaxsz", "dminsz", "ltime", "flgs", "sappbytes", "state"],
        "the reply answers the request; argus makes two records",
    ),
    known(
        &[5],
        &["fragments", "fragments from the higher address", "fragments of three datagrams"],
        &["sappbytes"],
        "argus 5 counts the data of all fragments",
    ),
    known(
        BOTH,
        &["fragments", "fragments from the higher address", "fragments of three datagrams"],
        &["sintpkt", "sjit", "sminsz"],
        "argus leaves later fragments out of these",
    ),
    known(&[5], &["fragments reversed"], &["sappbytes"], "as for the others"),
    known(
        BOTH,
        &["fragments reversed"],
        &["ltime", "sminsz"],
        "the time of a first fragment that comes last does not count in argus",
    ),
    known(
        BOTH,
        &["fragments without the first"],
        &["flgs"],
        "argus marks them as a part of a datagram; they are fragments",
    ),
    known(
        BOTH,
        &["fragments over ipv6"],
        &["record", "ltime", "sbytes", "spkts", "sintpkt", "sjit", "sminsz"],
        "later fragments of IPv6 are a flow of their own in argus",
    ),
    known(
        BOTH,
        &["fragments reversed over ipv6"],
        &["record", "stime", "sbytes", "spkts", "sminsz"],
        "later fragments of IPv6 are a flow of their own in argus",
    ),
    known(
        &[3],
        &["fragments over ipv6", "fragments reversed over ipv6"],
        &["flgs"],
        "later fragments of IPv6 are a flow of their own in argus",
    ),
    known(
        BOTH,
        &["icmp redirect", "icmp time exceeded"],
        &["sappbytes"],
        "argus counts the packet that is quoted",
    ),
    known(
        &[5],
        &["udp unreachable", "udp unreachable from the higher address"],
        &["sappbytes"],
        "argus counts the packet that is quoted",
    ),
    known(
        &[3],
        &[
            "icmp echo",
            "icmp echo from the higher address",
            "icmp echo with lost replies",
            "udp unreachable",
            "udp unreachable from the higher address",
        ],
        &["record"],
        "ids of ICMP are in the order of the machine's bytes in argus 3",
    ),
    known(&[3], &["icmp timestamp"], &["record"], "the id is not in the key of argus 3"),
    known(
        &[3],
        &["tcp congestion"],
        &["ackdat", "synack", "tcprtt"],
        "argus 3 times no handshake with flags of ECN",
    ),
    known(
        BOTH,
        &["tcp port reuse"],
        REUSED,
        "the new connection stretches the old record of argus",
    ),
    known(
        BOTH,
        &["tcp port reuse after a reset"],
        &["ltime", "sintpkt", "dintpkt", "sjit", "djit"],
        "the new connection stretches the old record of argus",
    ),
    known(
        &[5],
        &["tcp port reuse after a reset"],
        &["flgs"],
        "the new connection stretches the old record of argus",
    ),
    known(
        &[3],
        &["tcp port reuse"],
        &[
            "record",
            "cause",
            "spkts",
            "dpkts",
            "sbytes",
            "dbytes",
            "sappbytes",
            "dappbytes",
            "sgap",
            "dgap",
        ],
        "both connections are one flow in argus 3",
    ),
    known(
        &[5],
        &["tcp reset twice"],
        &[
            "record", "cause", "spkts", "dpkts", "sbytes", "dbytes", "ltime", "sintpkt", "dintpkt",
            "sjit", "djit",
        ],
        "argus 5 begins a record at a SYN and ACK behind a reset",
    ),
    known(
        BOTH,
        &["tcp retransmitted in vain"],
        &["sloss", "dloss", "flgs"],
        "argus seldom counts what is sent again after its acknowledgement",
    ),
    known(
        BOTH,
        &["tcp sequence wraps"],
        &["stcpb", "dtcpb"],
        "the first number of argus is that behind the wrap",
    ),
    known(
        BOTH,
        &["tcp without the syn", "tcp without the syn from the higher address"],
        &["ackdat", "tcprtt"],
        "argus takes no time without the SYN",
    ),
    known(BOTH, &["rtp", "rtp with a gap"], &["sappbytes"], "argus leaves out the header of RTP"),
    known(BOTH, &["esp"], &["record"], "argus's `ra` overwrites a half of the index"),
    known(BOTH, &["esp from the higher address"], &["flgs"], "argus marks the lost number"),
    known(BOTH, &["6in4", "ipip", "vlan of a provider"], &["record"], "argus does not open it"),
    known(BOTH, &["geneve", "teredo", "vxlan"], &["record"], "argus opens it only when asked"),
    known(BOTH, &["ah"], &["record"], "argus takes the checksum for the header of TCP"),
];

/// Argus 5; `None` if it is not there.
pub(crate) fn five() -> Option<Sensor> {
    let folder = boxes::argus_5().unwrap_or_else(|error| panic!("{error}"));
    let Some(folder) = folder else {
        panoptes_needs::skip::test("argus 5");
        return None;
    };
    let argus = Argus::in_folder(&folder);
    Some(Sensor { argus, form: "argus5:", folder: tempfile::tempdir().expect("a folder") })
}

/// Fails unless each kind has the differences that are known, and no others.
fn compare_kinds(version: u8, sensor: &Sensor) {
    let kinds = Mutex::new(kinds().into_iter());
    let found = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let next = kinds.lock().expect("no thread panics here").next();
                    let Some((name, capture)) = next else { break };
                    let file = sensor.capture(name, &capture);
                    let [theirs, own] = sensor.both(name, &file);
                    assert!(!theirs.is_empty() && !own.is_empty(), "{name}");
                    for one in differences(&theirs, &own, Tolerance::default(), REVERSED) {
                        let key = (name.to_owned(), one.field.clone());
                        let mut found = found.lock().expect("no thread panics here");
                        found.entry(key).or_insert_with(|| one.to_string());
                    }
                }
            });
        }
    });
    let found = found.into_inner().expect("no thread panicked");
    let expected: BTreeSet<(String, String)> = KNOWN
        .iter()
        .filter(|known| known.versions.contains(&version) && !known.reason.is_empty())
        .flat_map(|known| {
            let fields = |kind: &&str| {
                let kind = (*kind).to_owned();
                known.fields.iter().map(move |field| (kind.clone(), (*field).to_owned()))
            };
            known.kinds.iter().flat_map(fields).collect::<Vec<_>>()
        })
        .collect();
    let new: Vec<_> = found.iter().filter(|(key, _)| !expected.contains(*key)).collect();
    assert!(new.is_empty(), "argus {version}, then Panoptes, not listed: {new:#?}");
    let gone: Vec<_> = expected.iter().filter(|key| !found.contains_key(*key)).collect();
    assert!(gone.is_empty(), "argus {version}: to be removed from the list: {gone:?}");
}

#[test]
fn records_of_each_kind_are_those_of_argus_3() {
    compare_kinds(3, &Sensor::new());
}

#[test]
fn records_of_each_kind_are_those_of_argus_5() {
    let Some(sensor) = five() else { return };
    compare_kinds(5, &sensor);
}

/// `racluster` and `rasort` of a version make the same of both sensors' records.
fn compare_clients(sensor: &Sensor, name: &str) -> [[Vec<Row>; 2]; 2] {
    let argus = &sensor.argus;
    let read = |file: &Path| argus.ra(file).expect("ra reads the records");
    let both = ["argus", "flows"].map(|extension| {
        let records = sensor.file(name, extension);
        let merged = sensor.file(name, &format!("{extension}.merged"));
        let sorted = sensor.file(name, &format!("{extension}.sorted"));
        argus.racluster(&records, &merged).expect("racluster reads the records");
        argus.rasort(&records, "sbytes", &sorted).expect("rasort reads the records");
        (read(&merged), read(&sorted))
    });
    let [(theirs_merged, theirs_sorted), (own_merged, own_sorted)] = both;
    [[theirs_merged, own_merged], [theirs_sorted, own_sorted]]
}

#[test]
fn records_of_mixes_are_those_of_argus_5() {
    let Some(sensor) = five() else { return };
    for seed in 1..=3 {
        let name = format!("mix {seed}");
        let file = sensor.capture(&name, &Capture::mix(seed, 300));
        let [theirs, own] = sensor.both(&name, &file);
        assert!(own.len() > 250, "{name}: {} records", own.len());
        agree_with_five(&name, &theirs, &own);
        let [[theirs_merged, own_merged], [theirs_sorted, own_sorted]] =
            compare_clients(&sensor, &name);
        assert!(own_merged.len() > 200, "{name}: {} records", own_merged.len());
        agree_with_five(&name, &theirs_merged, &own_merged);
        agree_with_five(&name, &theirs_sorted, &own_sorted);
        let order = |rows: &[Row]| {
            let rows = rows.iter().filter(|row| row.text("proto") != "ipv6-icmp");
            rows.map(|row| row.number("sbytes")).collect::<Vec<_>>()
        };
        assert_eq!(order(&theirs_sorted), order(&own_sorted), "{name}");
    }
}
