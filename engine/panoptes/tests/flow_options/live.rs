//! Sensors that listen at an interface, and the truth about what is sent to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use panoptes_traffic::{BEGIN_NS, Between, Capture, Flow, Tcp, Udp};

use crate::network::{LEFT, RIGHT, add, ip};
use crate::programs::{Folder, Running, Sensor, argus};
use crate::stream::{Management, management};

/// Fields of records that neither the time of sending nor the sensor's id change.
const FIELDS: [&str; 12] = [
    "proto", "saddr", "sport", "dir", "daddr", "dport", "spkts", "dpkts", "sbytes", "dbytes",
    "state", "srcid",
];

/// A sensor that listens, and its records.
pub(crate) struct Live {
    pub(crate) running: Running,
    pub(crate) records: PathBuf,
}

impl Live {
    /// Starts a sensor; returns when it receives from these interfaces.
    #[track_caller]
    pub(crate) fn start(
        sensor: Sensor,
        folder: &Folder,
        options: &[&str],
        interfaces: &[&str],
    ) -> Self {
        let records = folder.path(&format!("{sensor:?}"));
        let mut command = sensor.with(options);
        let running = listen(sensor, command.arg("-w").arg(&records), interfaces);
        Self { running, records }
    }

    /// The most memory that it has used so far, in bytes, but for pages of programs and libraries:
    /// other programs share these, and a debug build has several times those of a release.
    pub(crate) fn most_memory(&self) -> u64 {
        let read = |name: &str| {
            let path = format!("/proc/{}/{name}", self.running.id());
            std::fs::read_to_string(path).expect("it runs")
        };
        let kib =
            |text: &str| -> u64 { text.trim().trim_end_matches(" kB").parse().expect("a number") };
        let status = read("status");
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        let (mut is_program, mut programs) = (false, 0);
        for line in read("smaps").lines() {
            // A range of addresses, permissions, offset, device, inode, and a path if it has one.
            let mut words = line.split_whitespace();
            let permissions = words.nth(1).filter(|word| word.len() == 4 && word.ends_with('p'));
            if let Some(permissions) = permissions {
                let path = words.nth(3).unwrap_or_default();
                is_program = path.starts_with('/') && !permissions.contains('w');
            } else if line.ends_with("kB") {
                let rss = line.strip_prefix("Rss:").filter(|_| is_program);
                programs += rss.map_or(0, kib);
            } else {
                is_program = false;
            }
        }
        (kib(most) - programs) << 10
    }

    /// Removes the first interface, and adds it again; returns when it is audited again.
    pub(crate) fn interface_comes_back(&self) {
        ip(&format!("link del {}", RIGHT[0]));
        self.running.wait_for("network interface right0 was removed");
        add(0);
        self.running.wait_for("right0: auditing again");
    }

    /// Waits until it has nothing more to do with the packets that were sent.
    pub(crate) fn settle(&self) {
        self.running.settle();
    }

    /// Ends it; its records.
    #[track_caller]
    pub(crate) fn end(self) -> PathBuf {
        self.running.settle();
        self.running.end(Signal::SIGTERM).succeeded();
        self.records
    }
}

impl Live {
    /// Sends so many packets while the sensor is stopped, and ends it. The numbers of packets in
    /// its records and of those that were lost, which are all of them.
    #[track_caller]
    pub(crate) fn overflow(self, count: usize, send_all: fn(&str, &Capture)) -> (u64, u64) {
        // It sleeps while packets fill its memory.
        self.running.stop();
        let udp = Udp::one_way(Between::v4(1, [5000, 6000]), BEGIN_NS, &vec![1400; count]);
        send_all(LEFT[0], &Capture::of(&udp));
        self.running.signal(Signal::SIGCONT);
        self.running.settle();
        let ended = self.running.end(Signal::SIGTERM);
        let records = management(&self.records);
        let sum = |of: fn(&Management) -> u64| records.iter().map(of).sum::<u64>();
        let (packets, dropped) = (sum(|one| one.packets), sum(|one| u64::from(one.dropped)));
        assert_eq!(packets + dropped, count as u64);
        let warning = format!("{dropped} of {count} packets were lost");
        assert!(ended.succeeded().contains(&warning));
        (packets, dropped)
    }
}

/// Starts a sensor; returns when it receives from these interfaces.
#[track_caller]
pub(crate) fn listen(sensor: Sensor, command: &mut Command, interfaces: &[&str]) -> Running {
    let running = Running::start(command);
    for interface in interfaces {
        running.wait_for(&sensor.has_begun(interface));
    }
    // Argus has prepared its filter when it waits.
    running.settle();
    running
}

/// What records are about, in a fixed order.
pub(crate) fn facts(records: &Path) -> Vec<[String; 12]> {
    let rows = argus().ra_fields(records, &FIELDS).unwrap_or_else(|error| panic!("{error}"));
    let mut facts: Vec<_> =
        rows.iter().map(|row| FIELDS.map(|field| row.text(field).to_owned())).collect();
    facts.sort();
    facts
}

/// The truth in the same form, for records with this id; so many times the packets.
pub(crate) fn truth(flows: &[Flow], id: &str) -> Vec<[String; 12]> {
    // Flows that are open or unanswered when the sensor ends have states of their own.
    let state = |flow: &Flow| match (&flow.protocol[..], &flow.state[..]) {
        ("tcp", "CON") => "TIM".to_owned(),
        ("udp", "INT") => "REQ".to_owned(),
        (_, state) => state.to_owned(),
    };
    let fact = |flow: &Flow| {
        let [packets, bytes] =
            [flow.packets, flow.bytes].map(|both| both.map(|count| count.to_string()));
        let ([sent, received], [sent_bytes, received_bytes]) = (packets, bytes);
        let key = flow.key().map(ToOwned::to_owned);
        let [protocol, source, port, destination, to_port] = key;
        [
            protocol,
            source,
            port,
            flow.direction.clone(),
            destination,
            to_port,
            sent,
            received,
            sent_bytes,
            received_bytes,
            state(flow),
            id.to_owned(),
        ]
    };
    let mut facts: Vec<_> = flows.iter().map(fact).collect();
    facts.sort();
    facts
}

/// A small connection of its own for each interface.
pub(crate) fn connection(number: u16) -> Capture {
    Capture::of(&Tcp::new(Between::v4(number, [40_000, 443]), BEGIN_NS))
}
