//! What records have: -A, -J, -m, -R, -U, -Z, -e, -S.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::thread;

use panoptes_traffic::{BEGIN_NS, Between, Capture, Exchange, Row, Tcp, Udp};

use crate::programs::{Folder, Sensor, argus, bytes, run};
use crate::stream::{management, plain, records, same, same_but};

/// What `with_and_without` compares with: our records without any option.
fn without() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let folder = Folder::new();
        let capture = folder.capture("plain.pcap", &plain());
        same(&folder.both(&["-S", "3600", "-r", &capture], &[]))
    })
}

/// Both sensors have the same records with an option. Only with it they have these fields.
#[track_caller]
fn with_and_without(options: &[&str], fields: &[&str]) {
    let folder = Folder::new();
    let capture = folder.capture("plain.pcap", &plain());
    let input = ["-S", "3600", "-r", &capture];
    let with = same(&folder.both(&[options, &input].concat(), &[]));
    let without = without();
    assert_eq!(with.len(), without.len());
    for field in fields {
        let has = |rows: &[Row]| rows.iter().any(|row| !["", "0"].contains(&row.text(field)));
        assert!(has(&with) && !has(without), "{field}");
    }
}

#[test]
fn option_a_upper_adds_application_bytes() {
    with_and_without(&["-A"], &["sappbytes", "dappbytes"]);
}

#[test]
fn option_j_upper_adds_times_between_packets() {
    with_and_without(&["-J"], &["sintpkt", "dintpkt", "sjit", "djit"]);
}

#[test]
fn option_m_adds_hardware_addresses() {
    with_and_without(&["-m"], &["smac", "dmac"]);
}

#[test]
fn option_z_upper_adds_sizes_of_packets() {
    with_and_without(&["-Z"], &["smaxsz", "dmaxsz", "sminsz", "dminsz"]);
}

#[test]
fn option_z_upper_adds_the_deviation_of_sizes() {
    let folder = Folder::new();
    // Datagrams of the source: 100, 300 and 500 bytes behind headers of 42.
    let sizes = [100, 200, 300, 200, 500];
    let udp = Udp::alternating(Between::v4(1, [5000, 6000]), BEGIN_NS, &sizes);
    let capture = folder.capture("udp.pcap", &Capture::of(&udp));
    let lines = run(&mut Sensor::Panoptes.with(&["-Z", "-r", &capture, "-w", "json:-"]));
    // The square root of (200² + 0 + 200²) / 3, cut to thousandths.
    assert!(lines.contains("\"source_packet_size_deviation\":163.299,"), "{lines}");
    assert!(lines.contains("\"destination_packet_size_deviation\":0,"), "{lines}");
    let lines = run(&mut Sensor::Panoptes.with(&["-r", &capture, "-w", "json:-"]));
    assert!(!lines.contains("deviation"), "{lines}");
}

#[test]
fn option_label_names_networks_and_ports() {
    let folder = Folder::new();
    let between = Between::v4(1, [5000, 6000]);
    let udp = Udp::alternating(between, BEGIN_NS, &[100, 200]);
    let capture = folder.capture("udp.pcap", &Capture::of(&udp));
    let labels = folder.write("labels", b"0.0.0.0/0 all of it\nudp/6000 x11\n");
    let records = folder.text("records");
    run(&mut Sensor::Panoptes.with(&["--label", &labels, "-r", &capture, "-w", &records]));
    let rows = argus().ra_fields(records.as_ref(), &["label:80"]).expect("records");
    let expected = "saddr=all of it:daddr=all of it:dport=x11";
    assert_eq!(rows.iter().map(|row| row.text("label")).collect::<Vec<_>>(), [expected]);
    let options = ["--label", &labels, "-r", &capture, "-w", "json:-"];
    let lines = run(&mut Sensor::Panoptes.with(&options));
    let expected = r#""labels":["saddr=all of it","daddr=all of it","dport=x11"]"#;
    assert!(lines.contains(expected), "{lines}");
}

#[test]
fn option_u_upper_adds_data() {
    with_and_without(&["-U", "32"], &["suser", "duser"]);
}

#[test]
fn option_c_upper_adds_all_data_of_the_control_plane() {
    let folder = Folder::new();
    let exchange = |bytes| Exchange { pause_ns: 1_000_000, bytes };
    let tcp = |port| Tcp {
        exchanges: vec![exchange([900, 5000]), exchange([40, 7000])],
        ..Tcp::new(Between::v4(1, [40_000, port]), BEGIN_NS)
    };
    let capture = Capture::of(&tcp(6633)).with(&tcp(80));
    let capture = folder.capture("control.pcap", &capture);
    let data = |options: &[&str]| {
        let files = folder.both(&[&["-S", "3600", "-r", &capture], options].concat(), &[]);
        files.map(|file| user_data(&bytes(&file)))
    };
    // Argus knows this protocol only.
    let [theirs, own] = data(&["-C"]);
    assert_eq!(own, theirs);
    let lengths = own.iter().map(|data| data.each_ref().map(Vec::len)).collect::<Vec<_>>();
    assert_eq!(lengths, [[940, 12_000], [0, 0]]);
    let [theirs, own] = data(&["-C", "-U", "16"]);
    assert_eq!(own, theirs);
    assert_eq!(own[1].each_ref().map(Vec::len), [16, 16]);
    // A variable of argus 5 names the protocols.
    let text = b"ARGUS_CAPTURE_FULL_CONTROL_DATA=yes\nARGUS_CONTROLPLANE_PROTO=\"tcp:80\"\n";
    let configuration = folder.write("argus.conf", text);
    for (filter, length) in [("port 80", 12_000), ("port 6633", 0)] {
        let file = folder.path(filter);
        let options = ["-F", &configuration, "-S", "3600", "-r", &capture, "-w"];
        run(Sensor::Panoptes.configured().args(options).arg(&file).args(["-", filter]));
        let [data] = &user_data(&bytes(&file))[..] else { panic!("one flow") };
        assert_eq!(data[1].len(), length, "{filter}");
    }
}

/// The data of both ends in each flow record.
fn user_data(bytes: &[u8]) -> Vec<[Vec<u8>; 2]> {
    let flows = records(bytes).filter(|record| record[0] == 0x13);
    let mut all: Vec<_> = flows.map(|record| [0x90, 0xa0].map(|end| data(record, end))).collect();
    all.sort_by_key(|data| std::cmp::Reverse(data[1].len()));
    all
}

/// The data in the part of one end.
fn data(record: &[u8], end: u8) -> Vec<u8> {
    let half = |part: &[u8], at: usize| usize::from(u16::from_be_bytes([part[at], part[at + 1]]));
    let mut rest = &record[4..];
    while let [kind, subtype, _, words, ..] = *rest {
        let length = match (kind, subtype) {
            (0x50, _) => half(rest, 2),
            _ => words.into(),
        };
        if (kind, subtype) == (0x50, end) {
            return rest[8..8 + half(rest, 6)].to_vec();
        }
        rest = &rest[4 * length.max(1)..];
    }
    Vec::new()
}

#[test]
fn option_r_upper_alone_changes_nothing() {
    // Argus keeps with it what is in our records anyway.
    with_and_without(&["-R"], &[]);
}

#[test]
fn option_e_identifies_the_sensor() {
    let folder = Folder::new();
    let capture = folder.capture("plain.pcap", &plain());
    let ids = [
        ("7", "7", (0x0040_0000, [0, 0, 0, 7])),
        ("10.1.2.3", "10.1.2.3", (0x0080_0000, [10, 1, 2, 3])),
        ("localhost", "127.0.0.1", (0x0080_0000, [127, 0, 0, 1])),
        ("\"arg1\"", "arg1", (0x0020_0000, *b"arg1")),
    ];
    thread::scope(|scope| {
        for (option, printed, id) in ids {
            let (folder, capture) = (&folder, &capture);
            scope.spawn(move || {
                let files = folder.both(&["-e", option, "-r", capture], &[]);
                for file in &files {
                    let rows = argus().ra_fields(file, &["srcid"]).expect("ra reads the records");
                    assert!(!rows.is_empty(), "{option}");
                    assert!(
                        rows.iter().all(|row| row.text("srcid") == printed),
                        "{option}: {rows:?}"
                    );
                }
                let [theirs, own] = files.map(|file| management(&file));
                assert!(own.iter().all(|record| record.id == id), "{option}: {own:?}");
                // Argus reverses the bytes of a text.
                if printed != "arg1" {
                    let ids = |all: &[crate::stream::Management]| {
                        all.iter().map(|one| one.id).collect::<Vec<_>>()
                    };
                    assert_eq!(ids(&theirs), ids(&own), "{option}");
                }
            });
        }
    });
}

/// Packets and bytes of each pair of addresses, in the direction of who sent them.
fn matrix(file: &std::path::Path) -> BTreeMap<[String; 3], [u64; 2]> {
    let fields = ["proto", "saddr", "daddr", "spkts", "dpkts", "sbytes", "dbytes"];
    let mut sums: BTreeMap<_, [u64; 2]> = BTreeMap::new();
    for row in argus().ra_fields(file, &fields).expect("records") {
        for (names, counts) in
            [(["saddr", "daddr"], ["spkts", "sbytes"]), (["daddr", "saddr"], ["dpkts", "dbytes"])]
        {
            let [source, destination] = names.map(|name| row.text(name).to_owned());
            let [packets, bytes] = counts.map(|name| row.number(name));
            if packets > 0 {
                let key = [row.text("proto").to_owned(), source, destination];
                let sum = sums.entry(key).or_default();
                *sum = [sum[0] + packets, sum[1] + bytes];
            }
        }
    }
    sums
}

#[test]
fn the_flow_key_joins_what_has_the_same_addresses() {
    let folder = Folder::new();
    let capture = folder.capture("plain.pcap", &Capture::new(9).with_mix(60));
    for (key, flow_type) in [
        ("LAYER_3_MATRIX", "Bidirectional"),
        ("LAYER_3_MATRIX", "Unidirectional"),
        ("LAYER_2_MATRIX", "Bidirectional"),
        ("LAYER_2_MATRIX", "Unidirectional"),
    ] {
        let text = format!("ARGUS_FLOW_KEY=\"{key}\"\nARGUS_FLOW_TYPE=\"{flow_type}\"\n");
        let configuration = folder.write("argus.conf", text.as_bytes());
        let options = ["-F", &configuration, "-S", "3600", "-r", &capture];
        let files = folder.both(&options, &["-", "ip", "and", "not", "vlan", "and", "not", "mpls"]);
        // Argus always takes the lower one of two hardware addresses for the source.
        let is_turned = (key, flow_type) == ("LAYER_2_MATRIX", "Bidirectional");
        let [theirs, own] = files.each_ref().map(|file| {
            let sums = matrix(file).into_iter().map(|([protocol, mut one, mut other], counts)| {
                if is_turned && one > other {
                    (one, other) = (other, one);
                }
                ([protocol, one, other], counts)
            });
            let mut sums: Vec<_> = sums.collect();
            sums.sort();
            sums
        });
        assert_eq!(theirs, own, "{key} {flow_type}");
        assert!(own.len() > 2, "{own:?}");
        let rows = argus().ra_fields(&files[1], &["spkts", "dpkts"]).expect("records");
        let has_both = |row: &Row| row.number("spkts") > 0 && row.number("dpkts") > 0;
        assert_eq!(rows.iter().any(has_both), flow_type == "Bidirectional", "{key}");
    }
}

#[test]
fn unidirectional_flows_have_one_sender() {
    let folder = Folder::new();
    let configuration = folder.write("argus.conf", b"ARGUS_FLOW_TYPE=\"Unidirectional\"\n");
    let between = Between::v4(1, [5000, 6000]);
    let udp = Udp::alternating(between, BEGIN_NS, &[100, 200, 300]);
    let capture = folder.capture("udp.pcap", &Capture::of(&udp));
    let options = ["-F", &configuration, "-S", "3600", "-r", &capture];
    assert_eq!(same(&folder.both(&options, &[])).len(), 2);
    let capture = folder.capture("plain.pcap", &plain());
    let options = ["-F", &configuration, "-S", "3600", "-r", &capture];
    let [theirs, own] = folder.both(&options, &["-", "ip"]);
    assert_eq!(matrix(&theirs), matrix(&own));
    let rows = argus().ra_fields(&own, &["spkts", "dpkts"]).expect("records");
    // `ra` turns those of servers, so that their sender is the destination.
    assert!(rows.iter().all(|row| row.number("spkts") * row.number("dpkts") == 0), "{rows:?}");
}

#[test]
fn option_e_has_room_for_16_bytes() {
    let folder = Folder::new();
    let capture = folder.capture("plain.pcap", &plain());
    let uuid = "00112233-4455-6677-8899-aabbccddeef0";
    for (number, id, expected) in [
        // The places of the bytes are those of argus 5.0.2: type, id, interface, number.
        (0, &format!("{uuid}/en0")[..], "01133207 00112233 44556677 8899aabb ccddeef0 656e3000"),
        (1, "2001:db8::1", "01030206 20010db8 00000000 00000000 00000001"),
    ] {
        let path = |name: &str| folder.path(&format!("{name}.{number}"));
        let [three, five, lines] = ["three", "five", "lines"].map(path);
        let mut command = Sensor::Panoptes.with(&["-e", id, "-r", &capture, "-w"]);
        command.arg(&three).arg("-w").arg(format!("argus5:{}", five.display()));
        run(command.arg("-w").arg(format!("json:{}", lines.display())));
        let five = bytes(&five);
        let first = records(&five).find(|record| record[0] == 0x15).expect("a flow");
        let words = expected.split(' ').map(|word| u32::from_str_radix(word, 16).expect("digits"));
        let expected: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
        assert!(first[4..].starts_with(&expected), "{id}: {first:02x?}");
        // Argus 3 has four bytes: the exclusive or of all words.
        let rows = argus().ra_fields(&three, &["srcid"]).expect("records");
        let folded = ["15", "536939961"][number];
        assert!(rows.iter().all(|row| row.text("srcid") == folded), "{rows:?}");
        assert!(management(&three).iter().all(|one| one.id.0 == 0x0040_0000), "{id}");
        let id = format!("\"source_id\":\"{}\"", id.trim_end_matches("/en0"));
        let lines = std::fs::read_to_string(&lines).expect("text");
        assert!(lines.lines().all(|line| line.contains(&id)), "{lines}");
    }
}

#[test]
fn option_s_upper_reports_flows_at_intervals() {
    let folder = Folder::new();
    let tcp = Tcp { keep_alive: 2, ..Tcp::new(Between::v4(1, [40_000, 443]), BEGIN_NS) };
    let capture = folder.capture("long.pcap", &Capture::of(&tcp).with_mix(40));
    let counts = thread::scope(|scope| {
        let run = |interval: &'static str| {
            let (folder, capture) = (&folder, &capture);
            scope.spawn(move || {
                let [theirs, own] = folder.both(&["-S", interval, "-r", capture], &["-", "tcp"]);
                // Argus's last cause is not always the same.
                same_but([&theirs, &own], &["cause"]).len()
            })
        };
        ["0.5", "2", "5", "60"].map(run).map(|thread| thread.join().expect("no panic"))
    });
    assert!(
        counts.is_sorted_by(|more, fewer| more >= fewer) && counts[0] > counts[3],
        "{counts:?}"
    );
}
