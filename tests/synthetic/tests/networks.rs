//! The interfaces of new network namespaces: when they are read, and what that costs.

mod common;

use std::net::SocketAddr;

use panoptes_decoders::address::KernelVa;
use panoptes_engine::limits::Limits;
use panoptes_engine::walk::{Budget, Kernel, Scope, Walker};
use panoptes_synthetic::{ForkOptions, Machine, Source, profile};

use common::{RELEASES, kernel, walker};

/// Scans for which the list of all interfaces is valid.
const PERIOD: usize = 128;
/// Most batches that a scan may spend on the interfaces of new namespaces: 32 entries, of which a
/// device takes four (itself, its hardware address, its lists of addresses).
const BATCHES_MAX: u64 = 32 * 4;

/// A machine, a walker that has scanned it once, and what the next scan costs without a change.
struct Bench {
    machine: Machine,
    kernel: Kernel,
    walker: Walker,
    /// The process that each test begins with.
    pid: u32,
    scans: usize,
}

impl Bench {
    fn new() -> Self {
        let mut machine = Machine::builder(&profile(RELEASES[2])).memory(256 << 20).build();
        let kernel = kernel(&mut machine);
        let pid = machine.fork(1);
        let limits = Limits { processes: 1024, ..Limits::default() };
        let mut bench = Self { machine, kernel, walker: walker(&limits), pid, scans: 0 };
        bench.scan();
        bench
    }

    /// Scans; returns the number of batches.
    fn scan(&mut self) -> u64 {
        self.scan_within(&Budget::NONE)
    }

    fn scan_within(&mut self, budget: &Budget<'_>) -> u64 {
        let (batches, dropped) = self.scan_with_losses(budget);
        assert_eq!(dropped, 0);
        batches
    }

    /// Scans; returns the numbers of batches and of losses for want of room.
    fn scan_with_losses(&mut self, budget: &Budget<'_>) -> (u64, u32) {
        self.scans += 1;
        let mut source = Source::new(&mut self.machine);
        let scanned = self.walker.scan_within(&mut source, &self.kernel, Scope::ALL, budget);
        let losses = scanned.expect("processes are found").losses;
        assert_eq!((losses.unreadable, losses.unbounded), (0, 0));
        (source.counts().batches, losses.dropped)
    }

    /// Whether the last scan was one that reads all interfaces.
    fn has_read_all(&self) -> bool {
        self.scans % PERIOD == 1
    }

    /// The interfaces of the namespace of a process, with their addresses.
    fn interfaces(&self, pid: u32) -> Vec<String> {
        let snapshot = self.walker.snapshot();
        let process = snapshot.process_by_pid(pid).expect("the process is found");
        let inum = snapshot.nets.at(process.net).expect("it has a namespace").inum;
        let rows = snapshot.interfaces.iter().filter(|row| row.network_namespace == inum);
        rows.map(|row| {
            let name = String::from_utf8_lossy(&row.name);
            format!("{} {:?}", name.trim_end_matches('\0'), row.ipv4.as_slice())
        })
        .collect()
    }

    /// A new process of a user in a new namespace.
    fn newcomer(&mut self, uid: u32) -> (u32, KernelVa) {
        let options = ForkOptions { container: 0, uid, new_session: true };
        let pid = self.machine.fork_with(1, options);
        let net = self.machine.unshare_network(pid);
        (pid, net)
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("it is an address")
}

#[test]
fn the_interfaces_of_a_new_namespace_are_read_in_the_scan_that_finds_it() {
    let mut bench = Bench::new();
    let before = bench.interfaces(bench.pid);
    bench.scan();
    let net = bench.machine.unshare_network(bench.pid);
    bench.machine.add_device(net, "eth0", 2, [10, 1, 0, 2]);
    bench.machine.connect(bench.pid, address("10.1.0.2:40000"), address("10.1.0.1:443"));
    bench.scan();
    assert_eq!(bench.interfaces(bench.pid), ["lo []", "eth0 [10.1.0.2]"]);
    assert_eq!(bench.interfaces(1), before);
}

#[test]
fn what_a_namespace_gets_later_is_read_soon() {
    let mut bench = Bench::new();
    let net = bench.machine.unshare_network(bench.pid);
    for _ in 0..5 {
        bench.scan();
    }
    assert_eq!(bench.interfaces(bench.pid), ["lo []"]);
    let eth0 = bench.machine.new_device(net, "eth0", 2, [2; 6]);
    bench.scan();
    assert_eq!(bench.interfaces(bench.pid), ["lo []", "eth0 []"]);
    // A device shows at once. An address shows after at most as many scans as have passed since.
    bench.machine.add_address(eth0, [10, 1, 0, 2]);
    bench.scan();
    assert_eq!(bench.interfaces(bench.pid), ["lo []", "eth0 [10.1.0.2]"]);
    for _ in 0..5 {
        bench.scan();
    }
    bench.machine.add_address(eth0, [10, 1, 0, 3]);
    for _ in 0..6 {
        bench.scan();
    }
    assert_eq!(bench.interfaces(bench.pid), ["lo []", "eth0 [10.1.0.3, 10.1.0.2]"]);
    // A process that connects has an address: it is read with the new connection.
    for _ in 0..20 {
        bench.scan();
    }
    bench.machine.add_address(eth0, [10, 1, 0, 4]);
    bench.machine.connect(bench.pid, address("10.1.0.4:40000"), address("10.1.0.1:443"));
    bench.scan();
    assert_eq!(bench.interfaces(bench.pid), ["lo []", "eth0 [10.1.0.4, 10.1.0.3, 10.1.0.2]"]);
}

#[test]
fn without_a_change_interfaces_are_read_once_in_a_period() {
    let mut bench = Bench::new();
    let quiet = bench.scan();
    let others: Vec<_> = (2..PERIOD).map(|_| bench.scan()).collect();
    assert!(others.iter().all(|&batches| batches == quiet), "{quiet}: {others:?}");
    let all = bench.scan();
    assert!(all > quiet, "{all} {quiet}");
    // A new namespace is read often at first, and then no more.
    bench.machine.unshare_network(bench.pid);
    let young: Vec<_> = (1..PERIOD).map(|_| bench.scan()).collect();
    let readings = young.iter().filter(|&&batches| batches > quiet).count();
    assert_eq!(readings, 8, "{young:?}");
    bench.scan();
    let old: Vec<_> = (1..PERIOD).map(|_| bench.scan()).collect();
    assert!(old.iter().all(|&batches| batches == old[0]), "{old:?}");
}

#[test]
fn many_new_namespaces_of_one_user_delay_no_other() {
    let mut bench = Bench::new();
    let quiet = bench.scan();
    let mut many = Vec::new();
    for number in 0..60 {
        let (pid, net) = bench.newcomer(1000);
        let count = if number == 7 { 40 } else { 3 };
        for index in 2..count {
            bench.machine.add_device(net, &format!("dummy{index}"), index, [10, 2, 0, 1]);
        }
        many.push(pid);
        // All that a process costs beside its interfaces grows slowly.
        let cost = bench.scan();
        assert!(cost <= quiet + BATCHES_MAX, "{cost} batches, {quiet} before");
    }
    for _ in 0..150 {
        for &pid in &many[..20] {
            bench.machine.unshare_network(pid);
        }
        let (pid, net) = bench.newcomer(1001);
        bench.machine.add_device(net, "eth0", 2, [10, 1, 0, 2]);
        let cost = bench.scan();
        let is_bounded = cost <= quiet + BATCHES_MAX || bench.has_read_all();
        assert!(is_bounded, "{cost} batches, {quiet} before");
        assert_eq!(bench.interfaces(pid), ["lo []", "eth0 [10.1.0.2]"]);
        bench.machine.kill(pid);
    }
}

#[test]
fn all_of_many_new_namespaces_are_read_in_the_end() {
    let mut bench = Bench::new();
    let quiet = bench.scan();
    let many: Vec<_> = (0..100).map(|_| bench.newcomer(1000).0).collect();
    let mut costs = Vec::new();
    for _ in 0..8 {
        costs.push(bench.scan());
    }
    assert!(costs.iter().all(|&cost| cost <= quiet + BATCHES_MAX), "{quiet}: {costs:?}");
    for pid in many {
        assert_eq!(bench.interfaces(pid), ["lo []"], "{costs:?}");
    }
}

#[test]
fn namespaces_that_are_gone_leave_room() {
    let mut bench = Bench::new();
    for number in 0..PERIOD as u8 - 2 {
        let net = bench.machine.unshare_network(bench.pid);
        for index in 2..6 {
            bench.machine.add_device(net, &format!("eth{index}"), index, [10, 1, number, 2]);
        }
        bench.scan();
        let last = bench.interfaces(bench.pid).pop();
        assert_eq!(last, Some(format!("eth5 [10.1.{number}.2]")));
    }
    assert_eq!(bench.interfaces(1).len(), 2);
}

#[test]
fn a_large_namespace_loses_nothing_when_a_device_is_added() {
    let mut bench = Bench::new();
    let net = bench.machine.unshare_network(bench.pid);
    for index in 2..40 {
        bench.machine.add_device(net, &format!("veth{index}"), index, [10, 1, 0, 1]);
    }
    for _ in 1..PERIOD {
        bench.scan();
    }
    // Its first devices are known until all are read.
    let first = bench.interfaces(bench.pid);
    assert!((4..20).contains(&first.len()), "{first:?}");
    bench.scan();
    let all = bench.interfaces(bench.pid);
    assert_eq!(all.len(), 39);
    let quiet = bench.scan();
    bench.machine.add_device(net, "veth40", 40, [10, 1, 0, 1]);
    assert!(bench.scan() > quiet);
    assert_eq!(bench.interfaces(bench.pid), all);
    // Reading it in part is of no use.
    assert_eq!((0..20).map(|_| bench.scan()).collect::<Vec<_>>(), [quiet; 20]);
}

#[test]
fn interfaces_of_one_user_take_no_room_from_others() {
    let mut bench = Bench::new();
    let crowds = [(); 3].map(|()| {
        let (pid, net) = bench.newcomer(1000);
        for index in 2..700 {
            bench.machine.new_device(net, &format!("dummy{index}"), index, [2; 6]);
        }
        pid
    });
    for _ in 0..40 {
        bench.newcomer(1000);
    }
    let others: Vec<_> = (0..60).map(|number| bench.newcomer(2000 + number % 2)).collect();
    for &(_, net) in &others {
        bench.machine.add_device(net, "eth0", 2, [10, 1, 0, 2]);
    }
    let before = bench.interfaces(1);
    while !bench.scans.is_multiple_of(PERIOD) {
        bench.scan_with_losses(&Budget::NONE);
    }
    // The large ones are cut, which is a loss of each.
    assert_eq!(bench.scan_with_losses(&Budget::NONE).1, 3);
    assert!(bench.has_read_all());
    for (pid, _) in others {
        assert_eq!(bench.interfaces(pid), ["lo []", "eth0 [10.1.0.2]"]);
    }
    assert_eq!(bench.interfaces(1), before);
    for pid in crowds {
        assert!(bench.interfaces(pid).len() >= 2);
    }
}

#[test]
fn a_scan_without_time_reads_one_new_namespace() {
    let mut bench = Bench::new();
    let is_over = || true;
    let budget = Budget::NONE.until(&is_over);
    let late = bench.scan_within(&budget);
    let new = [(); 3].map(|()| bench.newcomer(1000).0);
    for read in 1..=new.len() {
        let cost = bench.scan_within(&budget);
        assert!(cost <= late + BATCHES_MAX / 2, "{cost} batches, {late} before");
        let known = new.iter().filter(|&&pid| bench.interfaces(pid) == ["lo []"]).count();
        assert_eq!(known, read);
    }
}
