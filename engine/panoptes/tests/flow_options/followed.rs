//! Captures that come bit by bit: files that are rotated, folders, and pcap-over-IP.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use panoptes_bounded as bounded;
use panoptes_traffic::{Clock, Row};

use crate::programs::{Folder, Running, Sensor, run, until};
use crate::stream::{plain, rows};

const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

/// A capture in so many parts, each a capture. The last one is the shortest.
fn parts(count: usize) -> Vec<Vec<u8>> {
    let pcap = plain().pcap(Clock::Microseconds);
    let frames = plain().frames();
    let each = frames.len().div_ceil(count);
    let mut rest = &pcap[FILE_HEADER..];
    let cut = |some: &[Vec<u8>]| {
        let length = some.iter().map(|frame| PACKET_HEADER + frame.len()).sum();
        let (part, after) = rest.split_at(length);
        rest = after;
        [&pcap[..FILE_HEADER], part].concat()
    };
    frames.chunks(each).map(cut).collect()
}

/// The records of the whole capture.
fn of_the_whole(folder: &Folder) -> Vec<Row> {
    let (capture, records) = (folder.capture("whole.pcap", &plain()), folder.path("whole"));
    run(Sensor::Panoptes.with(&["-S", "3600", "-r", &capture, "-w"]).arg(&records));
    rows(&records)
}

/// A reader of what `-r` names, with these options.
fn reader(folder: &Folder, from: &str, options: &[&str]) -> Running {
    let mut command = Sensor::Panoptes.with(&["-S", "3600", "-r", from, "-w"]);
    Running::start(command.arg(folder.path("records")).args(options))
}

/// Waits until a process has read a file to its end.
#[track_caller]
fn until_read(running: &Running, path: &Path) {
    let position = || {
        let folder = format!("/proc/{}/fd", running.id());
        let open = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut its = open.filter(|open| fs::read_link(open.path()).is_ok_and(|to| to == path));
        let info = its.next()?.path().to_string_lossy().replace("/fd/", "/fdinfo/");
        let info = fs::read_to_string(info).ok()?;
        info.lines().find_map(|line| line.strip_prefix("pos:")?.trim().parse::<u64>().ok())
    };
    let length = fs::metadata(path).expect("the file").len();
    until(|| format!("{}: {:?}", path.display(), position()), || position() == Some(length));
}

#[test]
fn option_f_follows_a_file_that_is_moved_or_emptied() {
    let folder = Folder::new();
    let parts = parts(3);
    let path = folder.path("capture");
    fs::write(&path, &parts[0]).expect("there is room");
    let running = reader(&folder, path.to_str().expect("text"), &["-f"]);
    until_read(&running, &path);
    // Some of it comes when the file has moved.
    let (head, tail) = parts[1].split_at(parts[1].len() / 2);
    fs::rename(&path, folder.path("old")).expect("moved");
    fs::write(&path, head).expect("there is room");
    let mut growing = File::options().append(true).open(&path).expect("the file");
    until_read(&running, &path);
    growing.write_all(tail).expect("there is room");
    until_read(&running, &path);
    assert!(parts[2].len() < parts[1].len());
    fs::write(&path, &parts[2]).expect("there is room");
    until_read(&running, &path);
    running.settle();
    running.end(Signal::SIGTERM).succeeded();
    assert_eq!(rows(&folder.path("records")), of_the_whole(&folder));
}

#[test]
fn option_r_follows_the_captures_of_a_folder() {
    let folder = Folder::new();
    let parts = parts(4);
    let captures = folder.path("captures");
    fs::create_dir(&captures).expect("a folder");
    let file = |name: &str| captures.join(name);
    fs::write(file("cap1"), &parts[0]).expect("there is room");
    fs::write(file("readme"), b"a text that is longer than the header of a capture").expect("room");
    let running = reader(&folder, captures.to_str().expect("text"), &["-f"]);
    until_read(&running, &file("cap1"));
    fs::write(file("cap2"), &parts[1]).expect("there is room");
    until_read(&running, &file("cap2"));
    fs::write(file("cap0"), &parts[2]).expect("there is room");
    until_read(&running, &file("cap0"));
    // A ring of three files.
    fs::write(file("cap1"), &parts[3]).expect("there is room");
    until_read(&running, &file("cap1"));
    running.settle();
    let messages = running.end(Signal::SIGTERM).succeeded();
    assert_eq!(messages.matches("readme is not a capture in a known format").count(), 1);
    assert_eq!(rows(&folder.path("records")), of_the_whole(&folder));
}

/// Each writer of a FIFO begins with a header, also one whose predecessor ended within a packet.
#[test]
fn option_f_reads_each_writer_of_a_fifo() {
    use std::os::unix::fs::OpenOptionsExt as _;
    let folder = Folder::new();
    let (path, parts) = (folder.path("fifo"), parts(3));
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let running = reader(&folder, path.to_str().expect("text"), &["-f"]);
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let fifo = File::options().read(true).custom_flags(flags).open(&path).expect("a FIFO");
    let left = || rustix::io::ioctl_fionread(&fifo).expect("a pipe");
    let write = |bytes: &[u8]| {
        let mut writer = File::options().write(true).open(&path).expect("a reader");
        writer.write_all(bytes).expect("it reads");
        drop(writer);
        // It sleeps when it has found the end behind the last byte.
        until(|| format!("{} bytes are left", left()), || left() == 0);
        running.settle();
    };
    write(&[&parts[0][..], &parts[1][FILE_HEADER..FILE_HEADER + 30]].concat());
    write(&parts[1]);
    // One writer, as of `cat a b > fifo`.
    write(&[&parts[2][..], &parts[0][..FILE_HEADER]].concat());
    let messages = running.end(Signal::SIGTERM).succeeded();
    assert!(messages.contains("30 bytes at the ends of captures are no whole packets"));
    assert_eq!(rows(&folder.path("records")), of_the_whole(&folder));
}

/// It is longer at once than what was read, so that its length shows nothing.
#[test]
fn option_f_follows_a_file_that_is_written_anew() {
    let folder = Folder::new();
    let (path, parts) = (folder.path("capture"), parts(3));
    let longer = [&parts[1][..], &parts[2][FILE_HEADER..]].concat();
    assert!(longer.len() > parts[0].len());
    fs::write(&path, &parts[0]).expect("there is room");
    let running = reader(&folder, path.to_str().expect("text"), &["-f"]);
    until_read(&running, &path);
    running.stop();
    fs::write(&path, &longer).expect("there is room");
    running.signal(Signal::SIGCONT);
    until_read(&running, &path);
    running.settle();
    running.end(Signal::SIGTERM).succeeded();
    assert_eq!(rows(&folder.path("records")), of_the_whole(&folder));
}

/// Root reads what others may not, until it becomes another user.
#[test]
fn captures_of_other_users_are_read() {
    use std::os::unix::fs::PermissionsExt as _;
    if !nix::unistd::geteuid().is_root() {
        panoptes_needs::skip::test("root");
        return;
    }
    let folder = Folder::new();
    folder.open_to_all();
    let captures = folder.path("captures");
    fs::create_dir(&captures).expect("a folder");
    let mut files = Vec::new();
    for (number, part) in parts(3).iter().enumerate() {
        let path = captures.join(number.to_string());
        fs::write(&path, part).expect("there is room");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the owner may");
        std::os::unix::fs::chown(&path, Some(12_345), None).expect("root may");
        files.push(path.to_str().expect("text").to_owned());
    }
    let (all, whole) = (captures.to_str().expect("text"), of_the_whole(&folder));
    reader(&folder, all, &[]).ended().succeeded();
    assert_eq!(rows(&folder.path("records")), whole);
    // Those behind the first one are opened when packets have been interpreted.
    fs::remove_file(folder.path("records")).expect("the records");
    reader(&folder, &files[0], &["-r", &files[1], &files[2]]).ended().succeeded();
    assert_eq!(rows(&folder.path("records")), whole);
    fs::remove_file(folder.path("records")).expect("the records");
    let running = reader(&folder, &files[0], &["-f"]);
    until_read(&running, Path::new(&files[0]));
    fs::rename(&files[1], &files[0]).expect("moved");
    until_read(&running, Path::new(&files[0]));
    running.end(Signal::SIGTERM).succeeded();
    fs::remove_file(folder.path("records")).expect("the records");
    let ended = reader(&folder, &files[0], &["-u", "nobody", "-r", &files[2]]).ended();
    assert_eq!(ended.status.code(), Some(77), "{}", ended.messages);
    assert!(ended.messages.contains(&format!("cannot open {}", files[2])), "{}", ended.messages);
}

#[test]
fn option_r_reads_a_folder_once_without_option_f() {
    let folder = Folder::new();
    let captures = folder.path("captures");
    fs::create_dir(&captures).expect("a folder");
    // Not in the order of their names.
    for (name, part) in ["cap9", "cap10", "a", "b"].iter().zip(parts(4)) {
        fs::write(captures.join(name), part).expect("there is room");
    }
    reader(&folder, captures.to_str().expect("text"), &[]).ended().succeeded();
    assert_eq!(rows(&folder.path("records")), of_the_whole(&folder));
}

/// A server of pcap-over-IP, and its name for `-r`.
fn server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("an address").port();
    (listener, format!("tcp:127.0.0.1:{port}"))
}

/// Sends something to the next client, and keeps the connection.
fn send(listener: &TcpListener, bytes: &[u8]) -> TcpStream {
    let mut stream = bounded::accept(listener).expect("a client");
    stream.write_all(bytes).expect("it reads");
    stream
}

#[test]
fn option_r_reads_what_a_server_sends() {
    let folder = Folder::new();
    let (listener, name) = server();
    let running = reader(&folder, &name, &[]);
    drop(send(&listener, &plain().pcap(Clock::Microseconds)));
    running.ended().succeeded();
    assert_eq!(rows(&folder.path("records")), of_the_whole(&folder));
}

#[test]
fn option_f_connects_again_to_a_server() {
    let folder = Folder::new();
    let (listener, name) = server();
    let running = reader(&folder, &name, &["-f"]);
    let parts = parts(2);
    // The beginning of a packet is cut off.
    drop(send(&listener, &[&parts[0][..], &[0; 9]].concat()));
    drop(send(&listener, b"HTTP/1.1 400 Bad Request\r\n\r\n and more that is no capture"));
    let stream = send(&listener, &parts[1]);
    running.wait_for("is not a capture in a known format");
    running.settle();
    let messages = running.end(Signal::SIGTERM).succeeded();
    assert!(messages.contains("the server has ended the stream; it is tried again"), "{messages}");
    assert!(messages.contains("9 bytes at the ends of captures are no whole packets"));
    assert_eq!(rows(&folder.path("records")), of_the_whole(&folder));
    drop(stream);
}

/// The thread that interprets the stream may do little, and a signal does not wait for it.
#[test]
fn a_server_that_sends_nothing_delays_no_signal() {
    let folder = Folder::new();
    let (listener, name) = server();
    let running = reader(&folder, &name, &["-f"]);
    let stream = send(&listener, &plain().pcap(Clock::Microseconds)[..FILE_HEADER]);
    running.wait_for(": connected");
    running.settle();
    let tasks = fs::read_dir(format!("/proc/{}/task", running.id())).expect("it runs").flatten();
    let statuses = tasks.map(|task| fs::read_to_string(task.path().join("status")).expect("it"));
    let its: Vec<_> = statuses.filter(|status| status.starts_with("Name:\tcapture\n")).collect();
    assert_eq!(its.len(), 1);
    for line in ["Seccomp:\t2\n", "CapPrm:\t0000000000000000\n"] {
        assert!(its[0].contains(line), "{line}: {}", its[0]);
    }
    let begin = Instant::now();
    running.end(Signal::SIGTERM).succeeded();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    drop(stream);
}

#[test]
fn a_server_that_is_not_there_is_one_line() {
    let folder = Folder::new();
    let port = bounded::Port::reserve().expect("a port");
    let name = format!("tcp:{}", port.address());
    let ended = reader(&folder, &name, &[]).ended();
    assert_eq!(ended.status.code(), Some(66), "{}", ended.messages);
    assert!(ended.messages.contains(&format!("cannot connect to {name}: ")), "{}", ended.messages);
}
