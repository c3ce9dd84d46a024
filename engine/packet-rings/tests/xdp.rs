//! Packets that XDP takes from a pair of virtual Ethernet interfaces, compared with what was sent.
//!
//! In driver mode veth drops what its queue of 256 frames cannot hold, and in generic mode the
//! kernel's backlog of 1000 may be full. Both count it apart, so what was sent is always what was
//! received, lost here, or lost before.
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::print_stderr, reason = "it prints what it leaves out")]

mod common;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};
use common::{
    LEFT, PATIENCE, RIGHT, Sender, all, enter_namespace, frame, ip, now_ns, number_of, options,
    send_burst, tagged, until,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use panoptes_bounded as bounded;
use panoptes_decoders::packet::program::Instruction;
use panoptes_packet_files::Frame;
use panoptes_packet_rings::{Interface, InterfaceError, InterfaceOptions, XdpInterface, XdpMode};

/// The length up to which veth has XDP in the driver, and one above it (`veth_xdp_set`).
const MTUS: [(usize, XdpMode); 2] = [(1500, XdpMode::Driver), (9000, XdpMode::Generic)];

/// Enters a namespace whose interfaces have this MTU; `false` where XDP cannot be tested.
fn enter(mtu: usize) -> bool {
    if !enter_namespace() {
        return false;
    }
    for name in [LEFT, RIGHT] {
        ip(&format!("link set {name} mtu {mtu}"));
    }
    carrier();
    if let Err(InterfaceError::Unsupported { .. }) = XdpInterface::open(&options(RIGHT)) {
        panoptes_needs::skip::test("AF_XDP sockets");
        return false;
    }
    true
}

/// Waits until both ends have a carrier: the kernel drops what is sent before.
fn carrier() {
    until(|| [LEFT, RIGHT].iter().all(|name| show(name).contains("state UP")));
}

fn show(name: &str) -> String {
    let output = bounded::output(Command::new("ip").args(["-d", "link", "show", name])).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn started(options: &InterfaceOptions) -> XdpInterface {
    let mut interface = XdpInterface::open(options).unwrap();
    interface.start(&[]).unwrap();
    interface
}

/// Frames that did not come as far as XDP. In driver mode, veth counts what XDP loses as dropped
/// by the receiver, too (`veth_xdp_rcv_skb`).
fn lost_before(mode: XdpMode) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    // Columns of errors and drops: received are 2 and 3, sent are 10 and 11.
    let column = |name: &str, column: usize| -> u64 {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().nth(column).unwrap().parse().unwrap()
    };
    let by_backlog = if mode == XdpMode::Generic { column(RIGHT, 3) } else { 0 };
    by_backlog + column(LEFT, 11)
}

fn wait(interface: &XdpInterface, time: Duration) -> bool {
    let poll_one = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
    let mut polled: Vec<_> = interface.descriptors().map(poll_one).collect();
    poll(&mut polled, PollTimeout::try_from(time).unwrap()).unwrap() > 0
}

/// Gives each packet to `see` until none comes for half a second.
fn receive(interface: &mut XdpInterface, mut see: impl FnMut(Frame<'_>)) {
    let begin = Instant::now();
    loop {
        while let Some(frame) = interface.next() {
            see(frame);
        }
        assert!(begin.elapsed() < PATIENCE, "packets without end");
        if !wait(interface, Duration::from_millis(500)) {
            return;
        }
    }
}

fn frames(interface: &mut XdpInterface) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    receive(interface, |frame| frames.push(frame.bytes.to_vec()));
    frames
}

#[test]
fn frames_of_every_length_arrive_as_they_were_sent() {
    for (mtu, mode) in MTUS {
        if !enter(mtu) {
            return;
        }
        let mut interface = started(&options(RIGHT));
        assert_eq!((interface.mode(), interface.link()), (mode, 1));
        let sender = Sender::new(LEFT);
        let sent: Vec<_> = (14..=1514).map(|length| frame(length as u32, length)).collect();
        let begin = now_ns();
        sender.send_all(&sent);
        let end = now_ns();
        let (mut number, mut last, mut times) = (0, begin - 1_000_000, 0);
        receive(&mut interface, |frame| {
            assert_eq!(frame.bytes, sent[number], "{number}");
            assert_eq!(frame.wire_length as usize, sent[number].len());
            assert_eq!((frame.link, frame.interface > 0), (1, true));
            // The program has stamped it while it was sent, long before it was read.
            assert!((last..=end).contains(&frame.time_ns), "{number}: {} {last}", frame.time_ns);
            times += u32::from(frame.time_ns > last);
            (number, last) = (number + 1, frame.time_ns);
        });
        assert_eq!((number, lost_before(interface.mode())), (sent.len(), 0));
        assert!(times > 1400, "only {times} times differ");
        let losses = interface.losses();
        assert_eq!((losses.received, losses.dropped), (sent.len() as u64, 0));
    }
}

#[test]
fn tags_are_where_they_were_sent() {
    for (mtu, _) in MTUS {
        if !enter(mtu) {
            return;
        }
        let mut interface = started(&options(RIGHT));
        let plain = frame(7, 100);
        let mut sent = vec![plain.clone()];
        for kind in [0x8100, 0x88a8] {
            sent.extend([0, 0x6005, 0xffff].map(|tag| tagged(kind, tag, &plain)));
            sent.push(tagged(kind, 100, &tagged(0x8100, 200, &plain)));
        }
        Sender::new(LEFT).send_all(&sent);
        assert_eq!(frames(&mut interface), sent);
        // A tag that is beside a frame stays with the kernel; the loopback has none.
        assert!(interface.loses_tags());
        assert!(!XdpInterface::open(&options("lo")).unwrap().loses_tags());
    }
}

#[test]
fn packets_are_cut_at_the_snap_length() {
    if !enter(1500) {
        return;
    }
    for snap in [1_usize, 14, 64, 5000] {
        let mut interface =
            started(&InterfaceOptions { snap_length: snap as u32, ..options(RIGHT) });
        let sent = [frame(1, 60), frame(2, 1000)];
        Sender::new(LEFT).send_all(&sent);
        let mut seen = Vec::new();
        receive(&mut interface, |frame| seen.push((frame.bytes.to_vec(), frame.wire_length)));
        let cut = |sent: &Vec<u8>| (sent[..snap.min(sent.len())].to_vec(), sent.len() as u32);
        assert_eq!(seen, sent.iter().map(cut).collect::<Vec<_>>());
    }
}

#[test]
fn a_filter_sees_whole_packets_and_loses_none() {
    if !enter(1500) {
        return;
    }
    // `ldb [17]; jset #1; ret #262144; ret #0`: even numbers. It sees more than the snap length.
    let program = [(48, 0, 0, 17), (69, 1, 0, 1), (6, 0, 0, 262_144), (6, 0, 0, 0)];
    let program = program.map(|(code, jump_true, jump_false, constant)| Instruction {
        code,
        jump_true,
        jump_false,
        constant,
    });
    let mut interface =
        XdpInterface::open(&InterfaceOptions { snap_length: 16, ..options(RIGHT) }).unwrap();
    interface.start(&program).unwrap();
    let sent: Vec<_> = (0..1000).map(|number| frame(number, 100)).collect();
    Sender::new(LEFT).send_all(&sent);
    let wanted: Vec<_> = sent.iter().step_by(2).map(|sent| sent[..16].to_vec()).collect();
    assert_eq!(frames(&mut interface), wanted);
    assert_eq!((interface.losses().received, interface.losses().dropped), (500, 0));
    let wrong = [Instruction::default()];
    let error = XdpInterface::open(&options(LEFT)).unwrap().start(&wrong).unwrap_err().to_string();
    assert!(error.contains("cannot capture on left0: run the filter"), "{error}");
}

#[test]
fn a_burst_arrives_whole_and_in_order() {
    const FRAMES: u32 = 200_000;
    for (mtu, _) in MTUS {
        if !enter(mtu) {
            return;
        }
        let mut interface = started(&options(RIGHT));
        let sending = send_burst(FRAMES);
        let (mut count, mut next, mut last) = (0, 0, 0);
        let expected = frame(0, 96);
        receive(&mut interface, |frame| {
            let number = number_of(frame.bytes);
            assert!(number >= next, "{number} after {next}");
            assert_eq!(frame.bytes[18..], expected[18..]);
            assert!(frame.time_ns >= last);
            (count, next, last) = (count + 1, number + 1, frame.time_ns);
        });
        sending.join().unwrap();
        let losses = interface.losses();
        assert_eq!(losses.received - losses.dropped, count);
        assert_eq!(
            losses.received + lost_before(interface.mode()),
            u64::from(FRAMES),
            "{losses:?}"
        );
        assert!(count > 10_000, "{count}");
    }
}

#[test]
fn losses_are_counted_while_the_reader_stalls() {
    const FRAMES: u64 = 5000;
    for (mtu, _) in MTUS {
        if !enter(mtu) {
            return;
        }
        let mut interface = started(&InterfaceOptions { ring_bytes: 1, ..options(RIGHT) });
        let sender = Sender::new(LEFT);
        let mut total = 0;
        for turn in 1..=3 {
            for number in 0..FRAMES {
                sender.send(&frame(number as u32, 200));
            }
            let numbers: Vec<_> =
                frames(&mut interface).iter().map(|bytes| number_of(bytes)).collect();
            // What fitted into the chunks came first.
            assert_eq!(numbers, (0..64).collect::<Vec<_>>());
            total += numbers.len() as u64;
            let losses = interface.losses();
            assert_eq!(losses.received + lost_before(interface.mode()), turn * FRAMES);
            assert_eq!(losses.received - losses.dropped, total);
        }
        assert_eq!(interface.losses(), interface.losses());
    }
}

#[test]
fn frames_longer_than_a_chunk_are_lost_and_counted() {
    if !enter(9000) {
        return;
    }
    let mut interface = started(&options(RIGHT));
    // The kernel keeps 256 bytes of a chunk of 4096 (XDP_PACKET_HEADROOM).
    let sent = [3840, 3841, 9014, 60].map(|length| frame(length as u32, length));
    Sender::new(LEFT).send_all(&sent);
    assert_eq!(frames(&mut interface), [sent[0].clone(), sent[3].clone()]);
    assert_eq!((interface.losses().received, interface.losses().dropped), (4, 2));
}

#[test]
fn the_stack_has_the_packets_before_and_after() {
    for (mtu, _) in MTUS {
        if !enter(mtu) {
            return;
        }
        let mut stack = common::started(&options(RIGHT));
        let sender = Sender::new(LEFT);
        let mut interface = XdpInterface::open(&options(RIGHT)).unwrap();
        sender.send(&frame(1, 60));
        interface.start(&[]).unwrap();
        sender.send(&frame(2, 60));
        assert!(show(RIGHT).contains(" xdp"), "{}", show(RIGHT));
        assert_eq!(frames(&mut interface), [frame(2, 60)]);
        drop(interface);
        assert!(!show(RIGHT).contains(" xdp"), "{}", show(RIGHT));
        carrier();
        sender.send(&frame(3, 60));
        assert_eq!(all(&mut stack), [(frame(1, 60), 60), (frame(3, 60), 60)]);
    }
}

#[test]
fn each_queue_has_a_socket_and_times_order_their_packets() {
    const FRAMES: u32 = 20_000;
    if !enter(1500) {
        return;
    }
    ip(&format!("link del {LEFT}"));
    let queues = "numtxqueues 2 numrxqueues 2";
    ip(&format!("link add {LEFT} {queues} type veth peer name {RIGHT} {queues}"));
    for name in [LEFT, RIGHT] {
        ip(&format!("link set {name} up"));
    }
    carrier();
    let mut interface = started(&options(RIGHT));
    assert_eq!(interface.descriptors().count(), 3);
    let sender = Sender::new(LEFT);
    // veth's queue of what is sent is that of the processor.
    for number in 0..FRAMES {
        if number % 100 == 0 {
            let mut processor = CpuSet::new();
            processor.set(number as usize / 100 % 2).unwrap();
            if sched_setaffinity(Pid::from_raw(0), &processor).is_err() {
                panoptes_needs::skip::test("two processors");
                return;
            }
        }
        sender.send(&frame(number, 96));
        // Fewer than there are chunks, and than three batches of each queue.
        if number % 1000 == 999 {
            let (mut next, mut last) = (number - 999, 0);
            receive_now(&mut interface, |frame| {
                assert!(number_of(frame.bytes) >= next, "{} after {next}", number_of(frame.bytes));
                assert!(frame.time_ns >= last);
                (next, last) = (number_of(frame.bytes) + 1, frame.time_ns);
            });
        }
    }
    let losses = interface.losses();
    assert_eq!(losses.dropped, 0);
    assert_eq!(losses.received + lost_before(interface.mode()), u64::from(FRAMES));
}

/// Passes each available packet to `see`.
fn receive_now(interface: &mut XdpInterface, mut see: impl FnMut(Frame<'_>)) {
    thread::sleep(Duration::from_millis(2));
    while let Some(frame) = interface.next() {
        see(frame);
    }
}

#[test]
fn an_interface_that_goes_down_is_reported_once() {
    if !enter(1500) {
        return;
    }
    let mut interface = started(&options(RIGHT));
    let sender = Sender::new(LEFT);
    sender.send(&frame(1, 60));
    ip(&format!("link set {RIGHT} down"));
    let error = interface.check().unwrap_err().to_string();
    assert!(error.starts_with("network interface right0 is down"), "{error}");
    assert!(interface.check().is_ok());
    assert_eq!(frames(&mut interface), [frame(1, 60)]);

    ip(&format!("link set {RIGHT} up"));
    carrier();
    sender.send(&frame(2, 60));
    assert_eq!(frames(&mut interface), [frame(2, 60)]);
    assert!(interface.check().is_ok());

    ip(&format!("link del {RIGHT}"));
    assert!(wait(&interface, Duration::from_secs(5)));
    let error = interface.check().unwrap_err().to_string();
    assert_eq!(error, format!("network interface {RIGHT} was removed"));
    // No error is left that would end a wait at once.
    assert!(!wait(&interface, Duration::from_millis(100)));
    assert!(interface.check().is_ok() && interface.next().is_none());

    ip(&format!("link add {LEFT} type veth peer name {RIGHT}"));
    let mut again = XdpInterface::open(&options(RIGHT)).unwrap();
    let error = again.start(&[]).unwrap_err().to_string();
    assert!(error.starts_with("network interface right0 is down"), "{error}");
    ip(&format!("link set {LEFT} up"));
    ip(&format!("link set {RIGHT} up"));
    carrier();
    Sender::new(LEFT).send(&frame(3, 60));
    assert_eq!(frames(&mut again), [frame(3, 60)]);
}

#[test]
fn an_interface_is_promiscuous_while_it_is_open() {
    if !enter(1500) {
        return;
    }
    let promiscuity = || show(RIGHT).split_once("promiscuity ").unwrap().1.as_bytes()[0];
    for (promiscuous, expected) in [(true, b'1'), (false, b'0')] {
        let interface = started(&InterfaceOptions { promiscuous, ..options(RIGHT) });
        assert_eq!(promiscuity(), expected);
        drop(interface);
        assert_eq!(promiscuity(), b'0');
    }
}

#[test]
fn each_error_has_one_line() {
    let error = |name: &str| XdpInterface::open(&options(name)).unwrap_err().to_string();
    assert!(error("no such one").starts_with("there is no network interface no such one:"));
    assert!(error("any").starts_with("XDP needs one Ethernet interface, and any is none"));
    if !enter(1500) {
        return;
    }
    ip("tuntap add dev tun0 mode tun");
    assert!(error("tun0").starts_with("XDP needs one Ethernet interface, and tun0 is none"));
    let first = started(&options(RIGHT));
    let mut second = XdpInterface::open(&options(RIGHT)).unwrap();
    let occupied = second.start(&[]).unwrap_err().to_string();
    assert!(occupied.starts_with("another program receives from right0 by XDP"), "{occupied}");
    drop((first, second));
    started(&options(RIGHT));
    // This thread alone loses it, as below. Without it, chunks count as locked memory.
    caps::drop(None, CapSet::Effective, Capability::CAP_IPC_LOCK).unwrap();
    if fs::read_to_string("/proc/self/limits").unwrap().contains("locked memory         8388608 ") {
        let expected = "no memory for a ring of 33554432 bytes for right0: give it fewer";
        assert_eq!(error(RIGHT), expected);
    }
    for capability in [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN] {
        caps::drop(None, CapSet::Effective, capability).unwrap();
    }
    let expected = "no permission for XDP on right0: run as root, or with CAP_NET_RAW, \
        CAP_NET_ADMIN and CAP_BPF";
    assert_eq!(error(RIGHT), expected);
    assert!(Interface::open(&options(RIGHT)).is_ok());
}
