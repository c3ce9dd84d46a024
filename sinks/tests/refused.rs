//! Where io_uring is refused, as in many containers, plain writes take over.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(unsafe_code, reason = "a system call filter is set by prctl")]

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use panoptes_bounded as bounded;
use panoptes_records::queue::{QueueSize, RecordClass, Waker, queue};
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::socket::{Peer, PeerResolver, PendingConnection, Socket};
use panoptes_sinks::output::{Output, OutputCounters, OutputKind};
use panoptes_sinks::writer::Writer;

/// Makes `io_uring_setup` fail with EPERM in this thread, as a container's seccomp profile does.
fn refuse_io_uring() {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0), // seccomp_data.nr
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_io_uring_setup as u32,
        ),
        instruction(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        instruction(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it; both calls change this thread only.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

#[test]
fn plain_writes_take_over_where_io_uring_is_refused() {
    std::thread::spawn(|| {
        refuse_io_uring();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let output = FileOutput::open(&path, FileOptions::default()).unwrap();
        assert_eq!(output.kind(), OutputKind::Plain);
        let counters = output.counters().clone();
        let (mut producer, consumer) = queue(QueueSize::default(), &Waker::default());
        let mut writer = Writer::new(vec![consumer], vec![Box::new(output)]);
        producer.try_push(RecordClass::default(), b"{}").unwrap();
        drop(producer);
        writer.finish(&|| 0);
        assert_eq!(fs::read(&path).unwrap(), b"{}\n");
        assert_eq!((counters.plain_writes(), counters.ring_writes()), (1, 0));
    })
    .join()
    .unwrap();
}

#[test]
fn plain_sends_take_over_where_io_uring_is_refused() {
    std::thread::spawn(|| {
        refuse_io_uring();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
        let peer = Peer::udp("127.0.0.1", receiver.local_addr().unwrap().port());
        let addresses = PeerResolver::start(&peer).unwrap().answer().unwrap().unwrap();
        let connected = PendingConnection::new(&peer, addresses).advance(0, Duration::from_secs(1));
        let counters = Arc::new(OutputCounters::default());
        let mut socket = Socket::new(OutputKind::IoUring, &counters);
        assert_eq!(socket.kind(), OutputKind::Plain);
        socket.open(connected.unwrap().unwrap());
        assert_eq!(socket.append(b"{}"), 2);
        socket.advance(Duration::ZERO).unwrap();
        let mut room = [0; 8];
        assert_eq!(receiver.recv(&mut room).unwrap(), 2);
        assert_eq!((counters.plain_writes(), counters.ring_writes()), (1, 0));
    })
    .join()
    .unwrap();
}
