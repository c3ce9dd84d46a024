//! What records have: -A, -J, -m, -R, -U, -Z, -e, -S.

use std::sync::OnceLock;
use std::thread;

use panoptes_traffic::{BEGIN_NS, Between, Capture, Row, Tcp};

use crate::programs::{Folder, argus};
use crate::stream::{management, plain, same, same_but};

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
fn option_u_upper_adds_data() {
    with_and_without(&["-U", "32"], &["suser", "duser"]);
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
