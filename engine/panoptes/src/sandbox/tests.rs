//! Threads in each role: what they may do, and what they may not.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::IoSlice;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;

use clap::Parser as _;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::kill;
use nix::unistd::{Pid, execv, geteuid};
use panoptes_bounded as bounded;
use panoptes_sinks::flow::output::Datagrams;
use panoptes_sinks::panics::{caught, note};
use panoptes_sources::{GuestProcess, lock_own_memory};
use rustix::process::{getppid, getpriority_process, setpriority_process};

use super::*;
use crate::cli::{Arguments, Command as Subcommand};
use crate::config::{FlowInterfaces, LogLevel, SystemSettings};

const SCANNER: Role = Role::Scanner { has_dma: false };
const PORTS: Role = Role::Packets { from_interfaces: false, by_xdp: false };
const CAPTURES: Role = Role::Captures { from_files: true };
const STREAM: Role = Role::Captures { from_files: false };
const DMA: Role = Role::Scanner { has_dma: true };

/// Runs on a thread of this role, which the rest of the test's process does not share.
fn on<T: Send + 'static>(role: Role, run: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(move || {
        role.enter(&Messages::on_stderr(LogLevel::Debug));
        run()
    })
    .join()
    .expect("a filter ends no thread")
}

/// What no thread may do: execute, and control other processes.
fn attacks() {
    // If that succeeded, the test would end with the exit code of this program.
    let program: &CStr = c"/bin/false";
    assert!(matches!(execv(program, &[program]), Err(Errno::ENOSYS | Errno::EPERM)));
    let traced = ptrace::attach(Pid::parent());
    assert!(matches!(traced, Err(Errno::ENOSYS | Errno::EPERM)), "{traced:?}");
    assert!(Command::new("/bin/true").spawn().is_err());
    assert!(kill(Pid::parent(), None).is_err());
}

/// Does what each thread must still be able to do.
fn work() {
    note();
    let bytes = vec![1_u8; 64 << 20];
    assert_eq!(bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 64 << 20);
    drop(bytes);
    thread::park_timeout(std::time::Duration::from_millis(1));
    thread::sleep(std::time::Duration::from_millis(1));
    assert!(!fs::read("/proc/self/maps").unwrap().is_empty());
    assert!(File::open("/proc/thread-self/schedstat").is_ok());
    let panic = caught(|| panic!("a test's panic")).unwrap_err();
    assert!(panic.starts_with("a test's panic ("), "{panic}");
}

#[test]
fn a_scanner_executes_nothing_connects_nowhere_and_writes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, existing) = (folder.path().join("new"), folder.path().join("old"));
    fs::write(&existing, "a").unwrap();
    let parent = getppid();
    on(SCANNER, move || {
        attacks();
        // Its own priority may be lower.
        assert!(setpriority_process(parent, 0).is_err());
        assert_eq!(setpriority_process(None, getpriority_process(None).unwrap()), Ok(()));
        let error = UdpSocket::bind("127.0.0.1:0").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
        assert!(File::create(&path).is_err());
        assert!(File::options().append(true).open(&existing).is_err());
        assert!(fs::remove_file(&existing).is_err());
        assert!(thread::Builder::new().spawn(|| ()).is_err());
        work();
        // An error only if the limit is too low.
        let _ = lock_own_memory();
        assert_eq!(fs::read(&existing).unwrap(), b"a");
    });
}

#[test]
fn a_writer_rotates_and_connects_and_executes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    on(Role::Writer, move || {
        attacks();
        work();
        let (new, old) = (folder.path().join("a/new"), folder.path().join("a/old"));
        fs::create_dir(folder.path().join("a")).unwrap();
        let file = File::create(&new).unwrap();
        file.sync_all().unwrap();
        file.set_len(3).unwrap();
        file.lock().unwrap();
        fs::rename(&new, &old).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
        fs::remove_file(&old).unwrap();
        assert!(TcpStream::connect(address).is_ok());
        assert!(UdpSocket::bind("127.0.0.1:0").is_err(), "it sends, and receives nothing");
        assert!(TcpListener::bind("127.0.0.1:0").is_err());
        assert!(thread::Builder::new().spawn(|| ()).is_err());
    });
}

#[test]
fn a_thread_for_metrics_answers_and_connects_nowhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It waits to be accepted.
    let client = bounded::connect(address).unwrap();
    on(Role::Metrics, move || {
        attacks();
        work();
        listener.set_nonblocking(true).unwrap();
        let stream =
            rustix::net::accept_with(&listener, rustix::net::SocketFlags::CLOEXEC).unwrap();
        TcpStream::from(stream).set_nonblocking(true).unwrap();
        assert!(TcpStream::connect(address).is_err());
        assert!(File::create("/dev/null").is_err());
    });
    drop(client);
}

#[test]
fn a_thread_for_mirrored_packets_receives_them_and_opens_nothing() {
    use panoptes_decoders::packet::mirror::{LINKS, Mirror};
    use panoptes_packet_rings::{MirrorOptions, MirrorSocket};
    let options = MirrorOptions {
        name: "vxlan:127.0.0.1:0".to_owned(),
        mirror: Mirror::Vxlan,
        address: ([127, 0, 0, 1], 0).into(),
        snap_length: 64,
        buffer_bytes: 1 << 16,
    };
    let mut port = MirrorSocket::open(&options).unwrap();
    port.start(|_| Some(&[])).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagram = [8, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 1];
    sender.send_to(&datagram, port.address().unwrap()).unwrap();
    on(PORTS, move || {
        attacks();
        work();
        let (time_ns, mirrored) = port.next().unwrap();
        assert!(time_ns > 0 && LINKS.contains(&mirrored.link));
        assert_eq!(port.losses().dropped, 0);
        assert!(MirrorSocket::open(&options).is_err());
        assert!(UdpSocket::bind("127.0.0.1:0").is_err());
        assert!(File::create("/dev/null").is_err());
        assert!(thread::Builder::new().spawn(|| ()).is_err());
    });
}

/// What was connected before may send; nothing is sent to an address.
#[test]
fn threads_of_packets_and_of_clients_send_nowhere_else() {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg_addr};
    let interfaces = |by_xdp| Role::Packets { from_interfaces: true, by_xdp };
    for role in [PORTS, interfaces(false), interfaces(true), Role::Clients, Role::Metrics] {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
        let address = receiver.local_addr().unwrap();
        let [free, connected] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        connected.connect(address).unwrap();
        on(role, move || {
            let refused = |error: Option<i32>| assert_eq!(error, Some(libc::ENOSYS), "{role:?}");
            refused(free.send_to(b"to an address", address).unwrap_err().raw_os_error());
            let (parts, mut none) = ([IoSlice::new(b"message")], SendAncillaryBuffer::default());
            let sent = sendmsg_addr(&free, &address, &parts, &mut none, SendFlags::empty());
            refused(sent.err().map(rustix::io::Errno::raw_os_error));
            refused(free.connect(address).unwrap_err().raw_os_error());
            assert!(bounded::connect(address).is_err(), "{role:?}");
            connected.send(b"connected").unwrap();
            // Interfaces are looked for by netlink.
            let from_interfaces = matches!(role, Role::Packets { from_interfaces: true, .. });
            assert_eq!(panoptes_packet_rings::all().is_ok(), from_interfaces, "{role:?}");
        });
        let mut room = [0; 16];
        let length = receiver.recv(&mut room).unwrap();
        assert_eq!(&room[..length], b"connected", "{role:?}");
    }
}

#[test]
fn a_scanner_with_nvidias_library_does_most_but_executes_nothing() {
    on(DMA, || {
        attacks();
        work();
        assert!(UdpSocket::bind("127.0.0.1:0").is_ok());
        assert!(thread::spawn(|| ()).join().is_ok());
    });
}

#[test]
fn threads_keep_the_capabilities_of_their_roles() {
    for role in [SCANNER, Role::Writer, Role::Metrics, DMA, PORTS, CAPTURES, STREAM] {
        let before = caps::read(None, CapSet::Permitted).unwrap();
        let allowed = role.capabilities().unwrap_or_else(|| before.clone());
        let expected = before.intersection(&allowed).fold(0, |mask, one| mask | one.bitmask());
        on(role, move || {
            // A filter refuses the call that returns them.
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            for key in ["CapEff:", "CapPrm:"] {
                let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
                let found = u64::from_str_radix(line.trim(), 16).unwrap();
                assert_eq!(found, expected, "{role:?} {key}");
            }
        });
    }
}

fn system(address: SystemAddress) -> System {
    System { name: "a".to_owned(), address, settings: SystemSettings::default() }
}

#[test]
fn each_source_has_what_it_needs_and_no_more() {
    use Capability as C;
    let further = |address, auto_scan| -> Option<Vec<C>> {
        let systems: Vec<System> = Option::into_iter(address).map(system).collect();
        let needed = needed(&systems, auto_scan)?;
        assert!(SERVICE.iter().all(|one| needed.contains(one)));
        let mut further: Vec<C> = needed.into_iter().filter(|one| !SERVICE.contains(one)).collect();
        further.sort_by_key(C::index);
        Some(further)
    };
    // In the order of their numbers.
    let guests =
        [C::CAP_DAC_READ_SEARCH, C::CAP_SYS_PTRACE, C::CAP_LEASE, C::CAP_CHECKPOINT_RESTORE];
    assert_eq!(further(None, false).as_deref(), Some(&[][..]));
    assert_eq!(further(None, true).as_deref(), Some(&guests[..]));
    assert_eq!(further(Some(SystemAddress::Qemu(7)), false).as_deref(), Some(&guests[..]));
    let file = [C::CAP_DAC_READ_SEARCH, C::CAP_LEASE];
    let path = SystemAddress::File("/a".into());
    assert_eq!(further(Some(path), false).as_deref(), Some(&file[..]));
    let host = [C::CAP_DAC_READ_SEARCH, C::CAP_SYS_RAWIO];
    assert_eq!(further(Some(SystemAddress::Host), false).as_deref(), Some(&host[..]));
    let doca = SystemAddress::Doca { device: "mlx5_0".to_owned(), vuid: "a".to_owned() };
    assert_eq!(further(Some(doca), true), None);
}

#[cfg(feature = "doca")]
#[test]
fn functions_that_may_be_found_later_need_what_a_named_one_needs() {
    let check = |set: &[&str], expected| {
        let words = set.iter().flat_map(|it| ["--set", it]);
        let arguments = ["panoptes", "run"].into_iter().chain(words);
        let arguments = Arguments::try_parse_from(arguments).unwrap();
        let Subcommand::Run(settings) = arguments.command else { panic!("{set:?}") };
        let request = crate::request::WatchRequest::run(settings, Path::new("/missing")).unwrap();
        assert_eq!(request.has_dma(), expected, "{set:?}");
    };
    let (library, host) = ("service.doca_library_path=/missing", "systems.a.system='host:'");
    check(&[library], true);
    check(&[library, host, "auto_scan=false"], false);
    check(&["systems.a.system=doca:mlx5_0/a", "auto_scan=false"], true);
    // This machine may have the library.
    check(&[], crate::dma::is_installed(None));
}

/// A process of another user, which root starts.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = bounded::wait(&mut self.0);
    }
}

#[test]
fn a_scanner_takes_no_guest_of_another_user_for_ended() {
    if !geteuid().is_root() {
        panoptes_needs::skip::test("root");
        return;
    }
    let mut command = Command::new("sleep");
    let mut other = Other(command.arg("60").uid(65534).gid(65534).spawn().unwrap());
    let process = GuestProcess::open(other.0.id()).unwrap();
    let process = on(SCANNER, move || {
        assert!(!process.has_ended(), "its stack is hidden from threads without capabilities");
        process
    });
    other.0.kill().unwrap();
    bounded::wait(&mut other.0).unwrap();
    assert!(process.has_ended());
}

/// A collector that refuses, or that comes later: the socket is made again.
#[test]
fn outputs_of_datagrams_open_their_sockets() {
    for role in [Role::Writer, CAPTURES] {
        let receiver = bounded::deaf_receiver().unwrap();
        let address = receiver.local_addr().unwrap();
        let mut output = Datagrams::open(address).expect("a socket");
        output = on(role, move || {
            for _ in 0..3 {
                output.push(b"refused");
                output.finish(bounded::BOUND);
            }
            assert!(output.lost() > 0, "nobody listens");
            output
        });
        bounded::hear(&receiver).unwrap();
        on(role, move || {
            // The first one may be lost by an error that the kernel has not reported yet.
            for _ in 0..3 {
                output.push(b"again");
                output.finish(bounded::BOUND);
            }
            let mut second = Datagrams::open(address).expect("a socket on the thread");
            second.push(b"second");
            second.finish(bounded::BOUND);
            assert_eq!(second.lost(), 0, "{role:?}");
        });
        let mut room = [0; 9];
        let mut texts = std::iter::from_fn(|| {
            let length = receiver.recv(&mut room).unwrap();
            Some(room[..length].to_vec())
        });
        assert_eq!(texts.next().unwrap(), b"again", "{role:?}");
        assert!(texts.any(|text| text == b"second"));
    }
}

#[test]
fn a_sensor_of_ports_needs_no_capability_that_was_given_up() {
    let given_up = GivenUp { capabilities: interfaces(false).collect(), dma: false };
    let check = |names: &[&str]| {
        let interfaces = names.iter().map(|name| FlowInterfaces((*name).to_owned())).collect();
        given_up.check_flows(&Flows { interfaces, ..Flows::default() })
    };
    for names in [&[][..], &["udp:127.0.0.1:4789"], &["dup:udp:[::1]:6081,udp:[::1]:6082/7"]] {
        assert!(check(names).is_ok(), "{names:?}");
    }
    for names in [&["eth1"][..], &["udp:127.0.0.1:4789", "eth1"], &["dup:udp:[::1]:6081,eth1"]] {
        let refused = check(names).expect_err("an interface").to_string();
        assert!(refused.starts_with("flows: it needs capabilities"), "{refused}");
    }
    let nothing = GivenUp::default();
    let interfaces = vec![FlowInterfaces("eth1".to_owned())];
    assert!(nothing.check_flows(&Flows { interfaces, ..Flows::default() }).is_ok());
}
