//! Effects of sources on their process: reading does not allocate, and unrelated signals still
//! reach their handlers. These tests need a process of their own, for the allocator and because it
//! may die.
#![allow(unsafe_code, reason = "signals that the tests raise")]
#![expect(clippy::unwrap_used, reason = "also in what the tests share")]

#[path = "common/fault.rs"]
mod fault;

use std::ffi::{CString, c_int};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::channel;

use fault::{Fault, FaultRates};
use panoptes_allocations::HookAllocator;
use panoptes_bounded as bounded;
use panoptes_decoders::address::PhysicalAddress;
use panoptes_sources::{
    Detail, FileFormat, FileSource, FileSourceOptions, MappedMemory, MemorySource, PAGE_BYTES,
    ReadRequest, Recorder, Replay, Segment, SourceError, SourceMeter,
};

const PAGES: u64 = 64;

#[global_allocator]
static ALLOCATOR: HookAllocator = HookAllocator::counting();

/// A file of which every other page holds data.
fn file() -> File {
    let folder = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let file = tempfile::tempfile_in(folder).unwrap();
    file.set_len(PAGES * PAGE_BYTES).unwrap();
    for page in (0..PAGES).step_by(2) {
        file.write_all_at(&[page as u8 + 1; PAGE_BYTES as usize], page * PAGE_BYTES).unwrap();
    }
    file
}

fn mapped(file: &File) -> MappedMemory {
    let layout = Segment::around_hole(PAGES * PAGE_BYTES, 8 * PAGE_BYTES, 1 << 32);
    MappedMemory::from_file(file.try_clone().unwrap(), Path::new("test"), layout).unwrap()
}

/// Reads random places, and everything twice, with a call of `between`; returns the number of
/// allocations.
fn allocations(source: &mut impl MemorySource, between: impl FnOnce()) -> u64 {
    let mut arena = vec![0; 1 << 16];
    let mut requests: Vec<ReadRequest> = (0..4096_u64)
        .map(|index| {
            let address = match index % 5 {
                0 => index * 97 % (8 * PAGE_BYTES),
                1 => (1 << 32) + index * 1009 % (60 * PAGE_BYTES),
                2 => index % 8 * PAGE_BYTES + PAGE_BYTES - 20,
                3 => u64::MAX - index % 64,
                _ => index << 40,
            };
            ReadRequest::new(PhysicalAddress(address), index as u32 % 300, index as u32 * 16)
        })
        .collect();
    let before = panoptes_allocations::of_thread();
    for _ in 0..2 {
        source.read_batch(&mut requests, &mut arena);
        let mut from = 0;
        while let Some(range) = source.next_data(PhysicalAddress(from)) {
            from = range.end;
        }
    }
    let first = panoptes_allocations::of_thread() - before;
    between();
    let before = panoptes_allocations::of_thread();
    source.read_batch(&mut requests, &mut arena);
    first + panoptes_allocations::of_thread() - before
}

#[test]
fn no_source_allocates_while_reading() {
    assert!({
        let before = panoptes_allocations::of_thread();
        drop(std::hint::black_box(Box::new(7)));
        panoptes_allocations::of_thread() > before
    });
    let file = file();
    let mut source = mapped(&file);
    assert_eq!(allocations(&mut source, || ()), 0);
    let before = panoptes_allocations::of_thread();
    source.refresh().unwrap();
    assert_eq!(panoptes_allocations::of_thread(), before);

    let mut recorder = Recorder::new(mapped(&file)).unwrap();
    assert_eq!(allocations(&mut recorder, || ()), 0);
    let mut image = Vec::new();
    recorder.write_image(&mut image).unwrap();
    assert_eq!(allocations(&mut Replay::from_bytes(image).unwrap(), || ()), 0);

    let mut meter = SourceMeter::new(mapped(&file), Detail::Lines).unwrap();
    assert_eq!(allocations(&mut meter, || ()), 0);
    assert!(meter.counts().lines > 0);

    let rates = FaultRates {
        not_backed_pages: 100_000,
        zeroed_pages: 100_000,
        overwritten_pages: 100_000,
        failed_requests: 100_000,
        flipped_requests: 100_000,
        torn_requests: 100_000,
    };
    assert_eq!(allocations(&mut Fault::new(mapped(&file), 1, rates), || ()), 0);

    // Last, because it cuts the file.
    let mut source = mapped(&file);
    assert_eq!(allocations(&mut source, || file.set_len(4 * PAGE_BYTES).unwrap()), 0);
    assert!(source.is_truncated() && source.counts().signals > 0, "{:?}", source.counts());
}

const CHILD: &str = "PANOPTES_SOURCE_TEST_CHILD";

/// Whether this process was started by [`run_in_child`].
fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs a test of this file again, in a process that may die.
fn run_in_child(test: &str) -> ExitStatus {
    bounded::output(
        Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--test-threads=1"])
            .env(CHILD, "1"),
    )
    .unwrap()
    .status
}

/// Touches a separate mapping past the end of its file.
fn fault_elsewhere() {
    let file = file();
    // SAFETY: a new mapping, read once, at an address inside it. The read raises the signal under
    // test.
    unsafe {
        let start = libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(start, libc::MAP_FAILED);
        file.set_len(0).unwrap();
        ptr::read_volatile(start.cast::<u8>());
    }
}

fn set_errno(value: c_int) {
    // SAFETY: the location belongs to this thread.
    unsafe { *libc::__errno_location() = value };
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

#[test]
fn a_fault_elsewhere_still_ends_the_process() {
    if is_child() {
        let _source = mapped(&file());
        fault_elsewhere();
        std::process::exit(0);
    }
    let status = run_in_child("a_fault_elsewhere_still_ends_the_process");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
}

#[test]
fn a_signal_that_a_process_sends_still_ends_the_process() {
    if is_child() {
        let _source = mapped(&file());
        // The handler of Rust's runtime treats the first one as a possible stack overflow, restores
        // the default and waits for the signal to happen again. SAFETY: raise has no preconditions.
        unsafe {
            libc::raise(libc::SIGBUS);
            libc::raise(libc::SIGBUS);
        }
        std::process::exit(0);
    }
    let status = run_in_child("a_signal_that_a_process_sends_still_ends_the_process");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
}

static SEEN: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: c_int) {
    set_errno(5);
    if SEEN.swap(signal, Ordering::SeqCst) != 0 {
        // The second signal is a fault, after which the handler must not return.
        // SAFETY: _exit is made for signal handlers.
        unsafe { libc::_exit(33) };
    }
}

#[test]
fn a_previous_handler_still_gets_its_signals() {
    if is_child() {
        let handler: extern "C" fn(c_int) = note;
        // SAFETY: the handler uses an atomic, errno and _exit only.
        unsafe { libc::signal(libc::SIGBUS, handler as usize) };
        let shrinking = file();
        let mut source = mapped(&shrinking);
        assert!(source.read_exact(PhysicalAddress(0), &mut [0; 8]));
        shrinking.set_len(0).unwrap();
        assert!(!source.read_exact(PhysicalAddress(0), &mut [0; 8]));
        assert_eq!(SEEN.load(Ordering::SeqCst), 0, "the source's own signal was forwarded");
        set_errno(77);
        // SAFETY: raise has no preconditions.
        unsafe { libc::raise(libc::SIGBUS) };
        assert_eq!(errno(), 77);
        assert_eq!(SEEN.load(Ordering::SeqCst), libc::SIGBUS);
        fault_elsewhere();
        std::process::exit(0);
    }
    let status = run_in_child("a_previous_handler_still_gets_its_signals");
    assert_eq!(status.code(), Some(33), "{status}");
}

/// Raises the limit of open files, usually 1024; `false` without the permission.
fn allow_descriptors(count: u64) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a live rlimit.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_cur.max(count);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
    }
}

#[test]
fn a_full_table_of_mappings_is_an_error_and_makes_room_again() {
    if is_child() {
        let file = file();
        let open = || {
            let layout = vec![Segment { physical: 0..PAGE_BYTES, offset: 0 }];
            MappedMemory::from_file(file.try_clone().unwrap(), Path::new("test"), layout)
        };
        // 64 guests with 32 files each, twice. Each has a descriptor.
        if !allow_descriptors(2 * 64 * 32 + 64) {
            panoptes_needs::skip::test("many open files");
            std::process::exit(44);
        }
        let mut sources: Vec<MappedMemory> = (0..2 * 64 * 32).map(|_| open().unwrap()).collect();
        let error = open().unwrap_err();
        assert!(matches!(error, SourceError::Mappings));
        assert!(error.to_string().contains("fewer, larger memory files"), "{error}");
        sources.swap_remove(100);
        sources.push(open().unwrap());
        assert!(sources.iter_mut().all(|s| s.read_exact(PhysicalAddress(5), &mut [0; 5])));
        file.set_len(0).unwrap();
        assert!(sources.iter_mut().all(|s| !s.read_exact(PhysicalAddress(5), &mut [0; 5])));
        std::process::exit(44);
    }
    let status = run_in_child("a_full_table_of_mappings_is_an_error_and_makes_room_again");
    assert_eq!(status.code(), Some(44), "{status}");
}

/// A file on FUSE whose server answers nothing, not even statfs(2).
struct Unanswered {
    path: tempfile::TempPath,
    server: Option<File>,
}

impl Unanswered {
    /// `None` without the permission to mount.
    fn new() -> Option<Self> {
        let server = OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let options =
            format!("fd={},rootmode=100444,user_id=0,group_id=0,allow_other", server.as_raw_fd());
        let options = CString::new(options).unwrap();
        let place = CString::new(path.to_str().unwrap()).unwrap();
        let (name, kind) = (c"unanswered".as_ptr(), c"fuse".as_ptr());
        // SAFETY: all pointers are to strings that live through the call.
        let done = unsafe { libc::mount(name, place.as_ptr(), kind, 0, options.as_ptr().cast()) };
        (done == 0).then_some(Self { path, server: Some(server) })
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        // Requests that wait end with an error.
        drop(self.server.take());
        let place = CString::new(self.path.to_str().unwrap()).unwrap();
        // SAFETY: the pointer is to a string that lives through the call.
        unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn a_file_system_that_does_not_answer_is_refused_at_once() {
    let Some(file) = Unanswered::new() else {
        panoptes_needs::skip::test("/dev/fuse");
        return;
    };
    let path = file.path.to_path_buf();
    let (sender, answer) = channel();
    std::thread::spawn(move || {
        let opening = FileSourceOptions {
            format: FileFormat::Raw,
            is_watched: true,
            ..FileSourceOptions::default()
        };
        let _ = sender.send(FileSource::open_with(&path, opening).map(drop));
    });
    let refused = bounded::recv(&answer).unwrap().unwrap_err().to_string();
    assert!(refused.contains("it is on fuse, where a read can wait without end"), "{refused}");
    assert!(refused.contains(file.path.to_str().unwrap()) && !refused.contains('\n'), "{refused}");
}
