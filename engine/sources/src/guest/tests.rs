//! Private memory of this process, and processes that have no guest.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use panoptes_bounded as bounded;

use super::super::mapping::testing::StalledMemory;
use super::process::Alive;
use super::*;
use ReadOutcome::{Failed, NotBacked, Read};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
/// A process id that no process can have (`PID_MAX_LIMIT` is far below).
const NO_PROCESS: u32 = 0x7fff_ffff;

/// Memory of this process, most of it untouched, with the address of its first whole page.
fn memory() -> (Vec<u8>, u64) {
    let bytes = vec![0_u8; 65 << 20];
    let start = (bytes.as_ptr() as u64).next_multiple_of(PAGE);
    (bytes, start)
}

fn fill(memory: &mut [u8], start: u64, offset: u64, value: u8, bytes: usize) {
    let skip = (start - memory.as_ptr() as u64 + offset) as usize;
    memory[skip..skip + bytes].fill(value);
}

fn is_there(address: u64) -> bool {
    let mut entry = [0; 8];
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    pagemap.read_exact_at(&mut entry, address / PAGE * 8).unwrap();
    u64::from_le_bytes(entry) >> 62 != 0
}

fn own() -> (u32, File) {
    let pid = std::process::id();
    (pid, GuestProcess::open(std::process::id()).unwrap().pagemap().unwrap())
}

fn alive() -> Alive {
    Alive::of(std::process::id()).unwrap()
}

fn source(start: u64) -> PrivateMemory {
    let (pid, pagemap) = own();
    // 32 MiB at 0, and 32 MiB at 4 GiB.
    let pieces = vec![
        PrivateRange { physical: 0..32 * MIB, address: start, file: None },
        PrivateRange {
            physical: 1 << 32..(1 << 32) + 32 * MIB,
            address: start + 32 * MIB,
            file: None,
        },
    ];
    PrivateMemory::new(pid, alive(), pagemap, pieces).unwrap()
}

#[test]
fn what_was_written_is_read_and_holes_stay_holes() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 7, 100);
    fill(&mut bytes, start, 40 * MIB + 4000, 9, 200);
    let mut source = source(start);
    let hole = 20 * MIB;
    assert!(!is_there(start + hole), "this test needs untouched memory");

    let mut arena = vec![0xee; 4096];
    let mut requests = [
        ReadRequest::new(PhysicalAddress(0), 101, 0),
        ReadRequest::new(PhysicalAddress(hole), 64, 200),
        // Across two existing pages, past the end of a piece, and outside of all pieces.
        ReadRequest::new(PhysicalAddress((1 << 32) + 8 * MIB + 4000), 200, 300),
        ReadRequest::new(PhysicalAddress(32 * MIB - 10), 20, 600),
        ReadRequest::new(PhysicalAddress(1 << 40), 8, 700),
        ReadRequest::new(PhysicalAddress(u64::MAX - 3), 8, 710),
        ReadRequest::new(PhysicalAddress(0), 0, 720),
        ReadRequest::new(PhysicalAddress(0), 8, 4090),
        ReadRequest::new(PhysicalAddress(99), 2, 730),
    ];
    source.read_batch(&mut requests, &mut arena);
    let outcomes = requests.map(|request| request.outcome);
    assert_eq!(outcomes, [Read, Read, Read, NotBacked, NotBacked, NotBacked, Read, Failed, Read]);
    assert_eq!(arena[..100], [7; 100]);
    assert_eq!(arena[100], 0);
    assert_eq!(arena[200..264], [0; 64]);
    assert_eq!(arena[300..500], [9; 200]);
    assert_eq!(arena[600..620], [0; 20]);
    assert_eq!(arena[730..732], [7, 0]);
    assert_eq!(arena[732], 0xee);
    assert!(!is_there(start + hole), "reading a hole has filled it");
}

#[test]
fn a_sweep_covers_existing_pages_only() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 5 * MIB, 1, 1);
    fill(&mut bytes, start, 50 * MIB, 2, 1);
    let mut source = source(start);
    let mut at = 0;
    let mut found = Vec::new();
    while let Some(range) = source.next_data(PhysicalAddress(at)) {
        assert!(range.start >= at && range.end > range.start, "{range:x?} from {at:x}");
        found.push(range.clone());
        at = range.end;
    }
    let holds = |address: u64| found.iter().any(|range| range.contains(&address));
    assert!(holds(5 * MIB) && holds((1 << 32) + 18 * MIB), "{found:x?}");
    assert!(!holds(16 * MIB) && !is_there(start + 16 * MIB), "{found:x?}");
}

#[test]
fn a_batch_can_need_more_than_one_call() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 3, 4 << 20);
    let mut source = source(start);
    let mut arena = vec![0; 8 * 5000];
    let mut requests: Vec<ReadRequest> = (0..5000)
        .map(|index| ReadRequest::new(PhysicalAddress(u64::from(index) * 800), 8, index * 8))
        .collect();
    source.read_batch(&mut requests, &mut arena);
    assert!(requests.iter().all(|request| request.outcome == ReadOutcome::Read));
    assert!(arena.iter().all(|&byte| byte == 3));
}

#[test]
fn addresses_that_are_gone_fail_one_by_one() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 3, 4096);
    let (pid, pagemap) = own();
    // The kernel's half of addresses cannot be read.
    let nowhere = 0xffff_8000_0000_0000;
    let pieces = vec![
        PrivateRange { physical: 0..PAGE, address: start, file: None },
        PrivateRange { physical: MIB..MIB + PAGE, address: nowhere, file: None },
    ];
    let mut source = PrivateMemory::new(pid, alive(), pagemap, pieces).unwrap();
    source.known.insert_range(0..2);
    let mut arena = vec![0; 64];
    let mut requests: Vec<ReadRequest> = [0, MIB, 8, MIB + 8, MIB + 16, 16]
        .iter()
        .enumerate()
        .map(|(index, &at)| ReadRequest::new(PhysicalAddress(at), 8, index as u32 * 8))
        .collect();
    source.read_batch(&mut requests, &mut arena);
    let read: Vec<bool> = requests.iter().map(|one| one.outcome == ReadOutcome::Read).collect();
    assert_eq!(read, [true, false, true, false, false, true]);
}

#[test]
fn a_file_shows_through_where_nothing_was_written() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 3, 1);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[5; 3 * PAGE as usize]).unwrap();
    let (pid, pagemap) = own();
    let file = Some((file, PAGE));
    let pieces = vec![PrivateRange { physical: 0..32 * MIB, address: start, file }];
    let mut source = PrivateMemory::new(pid, alive(), pagemap, pieces).unwrap();
    let mut found = [1; 4];
    for (at, byte) in [(0, 3), (10 * MIB, 0)] {
        assert!(source.read_exact(PhysicalAddress(at), &mut found[..1]));
        assert_eq!(found[0], byte, "{at}");
    }
    assert_eq!(source.next_data(PhysicalAddress(8)), Some(8..32 * MIB));
}

#[test]
fn a_process_that_has_ended_cannot_be_read() {
    let mut child = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
    let process = GuestProcess::open(child.id()).unwrap();
    // Between fork and exec the child still has this process's memory.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !process.arguments().unwrap().starts_with(b"sleep\0") {
        assert!(Instant::now() < deadline);
    }
    let process = GuestProcess::open(child.id()).unwrap();
    assert!(!process.has_ended());
    assert!(process.executable().unwrap().is_absolute());
    let own = GuestProcess::open(std::process::id()).unwrap().users().unwrap();
    assert_eq!(process.users().unwrap(), own);
    child.kill().unwrap();
    // A zombie counts as ended; reap it afterwards.
    while !process.has_ended() {
        assert!(Instant::now() < deadline);
    }
    bounded::wait(&mut child).unwrap();
    assert!(process.has_ended());
    assert!(process.arguments().is_err());
    assert!(GuestProcess::open(u32::MAX).is_err());
}

#[test]
fn a_process_without_much_memory_is_no_guest() {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let process = GuestProcess::open(child.id()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let error = GuestMemory::open(process, &ExpectedMemory::default()).unwrap_err();
    child.kill().unwrap();
    bounded::wait(&mut child).unwrap();
    assert!(error.to_string().contains("is it QEMU?"), "{error}");
}

#[test]
fn pages_have_the_size_of_the_hosts_pages() {
    const LARGE: u64 = 1 << 16;
    let (mut bytes, start) = memory();
    let start = start.next_multiple_of(LARGE);
    fill(&mut bytes, start, 0, 0, 3 * LARGE as usize);
    fill(&mut bytes, start, LARGE, 7, LARGE as usize);
    // The entry of the second of three pages is set, at the offset that such a page has.
    let pagemap = tempfile::tempfile().unwrap();
    pagemap.set_len((start / LARGE + 3) * 8).unwrap();
    pagemap.write_all_at(&(1_u64 << 63).to_le_bytes(), (start / LARGE + 1) * 8).unwrap();
    // Memory that begins within a page.
    let (address, half) = (start + LARGE / 2, LARGE / 2);
    let pieces = vec![PrivateRange { physical: MIB..MIB + half + 2 * LARGE, address, file: None }];
    let pid = libc::pid_t::try_from(own().0).unwrap();
    let mut source = PrivateMemory::with_pages(pid, alive(), pagemap, pieces, LARGE);
    assert_eq!(source.next_data(PhysicalAddress(0)), Some(MIB + half..MIB + half + LARGE));
    let middle = PhysicalAddress(MIB + half + 5 * PAGE);
    assert_eq!(source.next_data(middle), Some(middle.0..MIB + half + LARGE));
    assert_eq!(source.next_data(PhysicalAddress(MIB + half + LARGE)), None);
    let mut found = vec![1; 2 * LARGE as usize];
    assert!(source.read_exact(PhysicalAddress(MIB + half - 8), &mut found[..LARGE as usize + 16]));
    assert_eq!(found[..9], [0, 0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(found[LARGE as usize + 7..LARGE as usize + 16], [7, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_missing_permission_is_detected_at_once() {
    private::probe(std::process::id()).unwrap();
    for pid in [NO_PROCESS, u32::MAX] {
        assert_eq!(private::probe(pid).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
    let denied = io::Error::from_raw_os_error(libc::EPERM);
    let error = failed(7, READ)(denied);
    assert_eq!(error.class(), crate::ErrorClass::Permission);
    assert!(error.to_string().contains("kernel.yama.ptrace_scope"), "{error}");
}

#[test]
fn a_process_that_has_ended_is_not_read_again() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 3, 4096);
    let pieces = vec![PrivateRange { physical: 0..MIB, address: start, file: None }];
    let mut source = PrivateMemory::new(NO_PROCESS, alive(), own().1, pieces).unwrap();
    let mut requests = [0, 8, 500 << 10].map(|at| ReadRequest::new(PhysicalAddress(at), 8, 0));
    let outcomes = |requests: [ReadRequest; 3]| requests.map(|request| request.outcome);
    source.read_batch(&mut requests, &mut [0; 8]);
    // The last page was never touched: its zeros are known without the process.
    assert_eq!(outcomes(requests)[..2], [Failed, Failed]);
    requests.rotate_right(1);
    source.read_batch(&mut requests, &mut [0; 8]);
    assert_eq!(outcomes(requests)[1..], [Failed, Failed]);
}

/// The id of a process that has ended belongs to another process, whose memory could be read.
#[test]
fn a_process_that_has_the_id_of_an_ended_one_is_not_read() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 3, 4096);
    let pieces = || vec![PrivateRange { physical: 0..MIB, address: start, file: None }];
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    let alive = Alive::of(child.id()).unwrap();
    assert!(!alive.has_ended());
    let (pid, pagemap) = own();
    let mut source = PrivateMemory::new(pid, alive, pagemap, pieces()).unwrap();
    let mut byte = [0];
    assert!(source.read_exact(PhysicalAddress(0), &mut byte));
    child.kill().unwrap();
    bounded::wait(&mut child).unwrap();
    assert!(!source.read_exact(PhysicalAddress(0), &mut byte));
    // A page that was never touched needs no read, but is no fact about the ended process either.
    assert!(!source.read_exact(PhysicalAddress(500 << 10), &mut byte));
    assert!(Alive::of(NO_PROCESS).is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
}

/// The process's memory is under a userfaultfd that nobody serves, as in a migration that stands
/// still.
#[test]
fn a_read_that_waits_without_end_fails_in_time() {
    let Some(unserved) = StalledMemory::new(MIB as usize) else {
        panoptes_needs::skip::test("userfaultfd");
        return;
    };
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 3, 4096);
    let (pid, pagemap) = own();
    let pieces = vec![
        PrivateRange { physical: 0..MIB, address: unserved.address(), file: None },
        PrivateRange { physical: 1 << 32..(1 << 32) + MIB, address: start, file: None },
    ];
    let mut source = PrivateMemory::new(pid, alive(), pagemap, pieces).unwrap();
    // The page was there once.
    source.known.insert_range(0..1);
    let mut source = TimedSource::new(Box::new(source), (pid, 0)).unwrap();
    source.refresh();
    let mut byte = [0];
    let begin = Instant::now();
    assert!(!source.read_exact(PhysicalAddress(0), &mut byte));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    // While the thread waits, nothing else is read, and nothing else waits.
    source.refresh();
    assert!(!source.read_exact(PhysicalAddress(1 << 32), &mut byte));
    let mut losses = 0;
    source.losses(&mut |_| losses += 1);
    assert_eq!(losses, 1);
    // The fault ends with its handler.
    drop(unserved);
    let end = Instant::now() + Duration::from_secs(20);
    while !source.read_exact(PhysicalAddress(1 << 32), &mut byte) {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
        source.refresh();
    }
    assert_eq!(byte, [3]);
}

/// Compares a batch in this thread with one in a thread of its own.
#[test]
#[ignore = "measures"]
fn measure_the_change_of_threads() {
    let (mut bytes, start) = memory();
    bytes.fill(1);
    for (requests, bytes) in [(10, 64), (100, 64), (1000, 64), (1000, 512), (100, 4096)] {
        let mut batch: Vec<ReadRequest> = (0..requests)
            .map(|index| {
                let address = (u64::from(index) * 7919 * 64) % (31 * MIB);
                ReadRequest::new(PhysicalAddress(address), bytes, index * bytes)
            })
            .collect();
        let mut arena = vec![0; (requests * bytes) as usize];
        let mut measure = |source: &mut dyn MemorySource| {
            let begin = Instant::now();
            source.read_batch(&mut batch, &mut arena);
            let took = begin.elapsed();
            assert!(batch.iter().all(|request| request.outcome == ReadOutcome::Read));
            took
        };
        let (mut one, mut other) =
            (source(start), TimedSource::new(Box::new(source(start)), (1, 1)).unwrap());
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for _ in 0..3000 {
            here.push(measure(&mut one));
            there.push(measure(&mut other));
        }
        here.sort_unstable();
        there.sort_unstable();
        let (here, there) = (here[300], there[300]);
        println!("{requests} requests of {bytes} bytes: {here:?} here, {there:?} there");
    }
}

#[test]
fn a_descriptor_that_changes_meanwhile_opens_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(bounded::status(Command::new("mkfifo").arg(&path)).unwrap().success());
    let held = |path: &std::path::Path| {
        let flags = libc::O_PATH;
        File::options().read(true).custom_flags(flags).open(path).unwrap()
    };
    // The first descriptor that the search meets, before that of the file, keeps changing.
    let mut flipped = OwnedFd::from(tempfile::tempfile().unwrap());
    let (pipe, other) = (held(&path), tempfile::tempfile().unwrap());
    let wanted = tempfile::tempfile().unwrap();
    let (inode, device) = (wanted.metadata().unwrap().ino(), wanted.metadata().unwrap().dev());
    let identity = (libc::major(device), libc::minor(device), inode);
    let process = GuestProcess::open(std::process::id()).unwrap();
    let done = AtomicBool::new(false);
    let is_done = || done.load(Ordering::Relaxed);
    let was_opened = AtomicBool::new(false);
    let (mut is_opened, mut found) = (false, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done() {
                for file in [&wanted, &pipe, &wanted, &other] {
                    rustix::io::dup2(file, &mut flipped).unwrap();
                }
            }
        });
        // Opening a pipe for writing returns once any process opens it for reading, however shortly
        // (fs/pipe.c, `fifo_open`).
        scope.spawn(|| {
            let opened = File::options().write(true).open(&path);
            was_opened.store(opened.is_ok(), Ordering::Relaxed);
        });
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            if let Ok(file) = process.mapped_file(&(0..0), identity) {
                found += usize::from(file.metadata().unwrap().ino() == inode);
                assert_eq!(file.metadata().unwrap().ino(), inode);
            }
        }
        done.store(true, Ordering::Relaxed);
        is_opened = was_opened.load(Ordering::Relaxed);
        // Unblock the writer.
        drop(File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path));
    });
    assert!(found > 0 && !is_opened, "{found} {is_opened}");
}

#[test]
fn a_guess_that_cannot_be_opened_is_left_out() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 3, 8);
    let process = GuestProcess::open(std::process::id()).unwrap();
    let placed = |physical, backing, is_guess| PlacedArea {
        physical,
        address: start,
        bytes: MIB,
        backing,
        is_guess,
    };
    let nothing = |shared| AreaBacking::File { identity: (9, 9, 9), offset: 0, shared };
    let layout = vec![
        placed(0, AreaBacking::Private, false),
        placed(1 << 32, nothing(true), true),
        placed(2 << 32, nothing(false), true),
        placed(3 << 32, AreaBacking::Private, true),
    ];
    let mut source = GuestMemory {
        process,
        layouts: vec![layout],
        chosen: 0,
        areas: Vec::new(),
        parts: Vec::new(),
        regions: Vec::new(),
        part_of: Vec::new(),
        outbound: Vec::new(),
        places: Vec::new(),
        has_ended: false,
    };
    source.choose(0).unwrap();
    assert_eq!(source.regions(), [0..MIB, 3 << 32..(3 << 32) + MIB]);
    let mut found = [0; 8];
    assert!(source.read_exact(PhysicalAddress(3 << 32), &mut found));
    assert_eq!(found, [3; 8]);
    assert!(!source.read_exact(PhysicalAddress(1 << 32), &mut found));
    // A named block must exist.
    source.layouts[0][1].is_guess = false;
    assert!(source.choose(0).is_err());
}
