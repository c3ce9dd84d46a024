//! Private memory on this very process, and processes that are none of a guest.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};

use super::*;
use Outcome::{Failed, NotBacked, Read};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

/// Memory of this process, most of it never touched, with the address of its first whole page.
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

fn own() -> (libc::pid_t, File) {
    let pid = libc::pid_t::try_from(std::process::id()).unwrap();
    (pid, GuestProcess::open(std::process::id()).unwrap().pagemap().unwrap())
}

fn source(start: u64) -> PrivateMemory {
    let (pid, pagemap) = own();
    // 32 MiB at 0, and 32 MiB at 4 GiB.
    let pieces = vec![
        Piece { physical: 0..32 * MIB, address: start, file: None },
        Piece { physical: 1 << 32..(1 << 32) + 32 * MIB, address: start + 32 * MIB, file: None },
    ];
    PrivateMemory::new(pid, pagemap, pieces)
}

#[test]
fn what_was_written_is_read_and_holes_stay_holes() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 7, 100);
    fill(&mut bytes, start, 40 * MIB + 4000, 9, 200);
    let mut source = source(start);
    let hole = 20 * MIB;
    assert!(!is_there(start + hole), "this test needs memory that nobody has touched");

    let mut arena = vec![0xee; 4096];
    let mut requests = [
        Request::new(PhysicalAddress(0), 101, 0),
        Request::new(PhysicalAddress(hole), 64, 200),
        // Across pages, both there; and from one piece into nothing.
        Request::new(PhysicalAddress((1 << 32) + 8 * MIB + 4000), 200, 300),
        Request::new(PhysicalAddress(32 * MIB - 10), 20, 600),
        Request::new(PhysicalAddress(1 << 40), 8, 700),
        Request::new(PhysicalAddress(u64::MAX - 3), 8, 710),
        Request::new(PhysicalAddress(0), 0, 720),
        Request::new(PhysicalAddress(0), 8, 4090),
        Request::new(PhysicalAddress(99), 2, 730),
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
fn a_sweep_goes_over_what_is_there() {
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
fn more_than_one_call_takes() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 3, 4 << 20);
    let mut source = source(start);
    let mut arena = vec![0; 8 * 5000];
    let mut requests: Vec<Request> = (0..5000)
        .map(|index| Request::new(PhysicalAddress(u64::from(index) * 800), 8, index * 8))
        .collect();
    source.read_batch(&mut requests, &mut arena);
    assert!(requests.iter().all(|request| request.outcome == Outcome::Read));
    assert!(arena.iter().all(|&byte| byte == 3));
}

#[test]
fn addresses_that_are_gone_fail_one_by_one() {
    let (mut bytes, start) = memory();
    fill(&mut bytes, start, 0, 3, 4096);
    let (pid, pagemap) = own();
    // The kernel's half of addresses is nobody's to read.
    let nowhere = 0xffff_8000_0000_0000;
    let pieces = vec![
        Piece { physical: 0..PAGE, address: start, file: None },
        Piece { physical: MIB..MIB + PAGE, address: nowhere, file: None },
    ];
    let mut source = PrivateMemory::new(pid, pagemap, pieces);
    source.known.insert_range(0..2);
    let mut arena = vec![0; 64];
    let mut requests: Vec<Request> = [0, MIB, 8, MIB + 8, MIB + 16, 16]
        .iter()
        .enumerate()
        .map(|(index, &at)| Request::new(PhysicalAddress(at), 8, index as u32 * 8))
        .collect();
    source.read_batch(&mut requests, &mut arena);
    let read: Vec<bool> = requests.iter().map(|one| one.outcome == Outcome::Read).collect();
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
    let pieces = vec![Piece { physical: 0..32 * MIB, address: start, file }];
    let mut source = PrivateMemory::new(pid, pagemap, pieces);
    let mut found = [1; 4];
    for (at, byte) in [(0, 3), (10 * MIB, 0)] {
        assert!(source.read_exact(PhysicalAddress(at), &mut found[..1]));
        assert_eq!(found[0], byte, "{at}");
    }
    assert_eq!(source.next_data(PhysicalAddress(8)), Some(8..32 * MIB));
}

#[test]
fn a_process_that_ends_is_gone_for_good() {
    let mut child = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
    let process = GuestProcess::open(child.id()).unwrap();
    // Between fork and exec its memory is still ours.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !process.arguments().unwrap().starts_with(b"sleep\0") {
        assert!(std::time::Instant::now() < deadline);
    }
    let process = GuestProcess::open(child.id()).unwrap();
    assert!(!process.has_ended());
    assert!(process.executable().unwrap().is_absolute());
    let own = GuestProcess::open(std::process::id()).unwrap().users().unwrap();
    assert_eq!(process.users().unwrap(), own);
    child.kill().unwrap();
    // A zombie has ended too; only then it is reaped.
    while !process.has_ended() {
        assert!(std::time::Instant::now() < deadline);
    }
    child.wait().unwrap();
    assert!(process.has_ended());
    assert!(process.arguments().is_err());
    assert!(GuestProcess::open(u32::MAX).is_err());
}

#[test]
fn a_process_without_much_memory_is_no_guest() {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let process = GuestProcess::open(child.id()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    let error = GuestMemory::open(process, &Expected::default()).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(error.to_string().contains("is it QEMU?"), "{error}");
}
