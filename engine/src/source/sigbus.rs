//! Surviving SIGBUS: a file that shrinks under its mapping, a hole that is guarded, hardware that failed.
//!
//! Touching a page of a mapping that can't be had raises SIGBUS in the thread that touches it. A
//! process-wide handler, installed with the first mapping, looks the address up in a fixed table of ranges,
//! maps zeros there, and marks the range: the copy then goes on, and whoever made it sees the mark, throws the
//! copy away and mends the mapping. A SIGBUS that is none of ours goes to the handler that was there before.
//!
//! A thread that reads mappings must not have SIGBUS blocked: the kernel ends the process then.
//!
//! Not for: errors of `pread`, which are values. [`super::mapping`] is the only user.
#![allow(unsafe_code, reason = "a signal handler, and the system calls it may make")]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// Ranges watched at once at most; a lookup in the handler looks at each.
pub(super) const RANGES_MAX: usize = 256;

/// How much the handler replaces at once. More would throw away what is mapped well; less, and one request of
/// 4 GiB over nothing but missing pages could exceed the process's count of mappings (65,530 by default).
pub(super) const REPLACED_BYTES: usize = 1 << 20;

/// A range of addresses whose SIGBUS is survived. The handler takes no lock, so all fields are atomics.
#[derive(Debug)]
struct Slot {
    taken: AtomicBool,
    /// Address of the first byte; 0 while the slot is not in use.
    start: AtomicUsize,
    /// Address after the last byte.
    end: AtomicUsize,
    /// What a mapping over part of the range must be aligned to: the page size, or a huge page's.
    page_bytes: AtomicUsize,
    faulted: AtomicBool,
}

impl Slot {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            page_bytes: AtomicUsize::new(0),
            faulted: AtomicBool::new(false),
        }
    }
}

static SLOTS: [Slot; RANGES_MAX] = [const { Slot::new() }; RANGES_MAX];
static INSTALL: Once = Once::new();
/// The handler before ours, and its flags, as sigaction(2) has them.
static PREVIOUS_HANDLER: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static PREVIOUS_FLAGS: AtomicI32 = AtomicI32::new(0);

/// A range in the table for as long as this lives; drop it before the range is unmapped.
#[derive(Debug)]
pub(super) struct Guard {
    slot: &'static Slot,
}

impl Guard {
    /// Watches `bytes` from address `start` on, which must be a mapping of the caller's own that nothing
    /// but copies out of it depends on. `None` if the table is full or no handler can be installed.
    pub(super) fn new(start: usize, bytes: usize, page_bytes: usize) -> Option<Self> {
        INSTALL.call_once(install);
        let free = |slot: &&Slot| !slot.taken.swap(true, Ordering::Acquire);
        let slot = SLOTS.iter().find(free)?;
        slot.faulted.store(false, Ordering::Relaxed);
        slot.page_bytes.store(page_bytes, Ordering::Relaxed);
        slot.end.store(start + bytes, Ordering::Relaxed);
        slot.start.store(start, Ordering::Release);
        Some(Self { slot })
    }

    /// Whether a byte of the range has raised SIGBUS since the mark was last taken away. What was read
    /// meanwhile may be made-up zeros.
    #[inline]
    pub(super) fn faulted(&self) -> bool {
        self.slot.faulted.load(Ordering::Relaxed)
    }

    /// Takes the mark away, once the range is mended.
    pub(super) fn unmark(&self) {
        self.slot.faulted.store(false, Ordering::Relaxed);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.slot.start.store(0, Ordering::Release);
        self.slot.taken.store(false, Ordering::Release);
    }
}

/// Puts the handler in, and keeps the one before for what is not ours.
fn install() {
    // SAFETY: sigaction is plain data for which zeros are valid (SIG_DFL, no flags, empty mask).
    let (mut previous, mut ours): (libc::sigaction, libc::sigaction) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    // SAFETY: both pointers are null or point to a live sigaction. The previous one is read and stored
    // before ours goes in, so that ours never runs without knowing it.
    unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) };
    PREVIOUS_HANDLER.store(previous.sa_sigaction, Ordering::Relaxed);
    PREVIOUS_FLAGS.store(previous.sa_flags, Ordering::Relaxed);
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
    ours.sa_sigaction = handler as usize;
    // ONSTACK: Rust's own threads have a signal stack; a fault near a stack's end must find it.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `ours` is a valid sigaction whose handler is async-signal-safe: it uses atomics, mmap,
    // sigaction and raise only. It can't fail: SIGBUS may be caught and the pointers are valid.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) };
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the location is this thread's own; the interrupted code must find its errno unchanged.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO.
    let code = unsafe { (*info).si_code };
    // Codes above 0 come from the kernel, and only then is there an address (sigaction(2)).
    let from_kernel = code > 0;
    // SAFETY: as above; for SIGBUS from the kernel the union holds si_addr.
    let address = if from_kernel { unsafe { (*info).si_addr() as usize } } else { 0 };
    if !(from_kernel && survive(address)) {
        forward(signal, info, context, from_kernel);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Maps zeros over the bytes from the page of `address` on, within its range; `false` if it is in none.
fn survive(address: usize) -> bool {
    for slot in &SLOTS {
        let start = slot.start.load(Ordering::Acquire);
        let end = slot.end.load(Ordering::Relaxed);
        // The second look at `start`: the slot may just have passed to another range.
        let ours = start != 0
            && (start..end).contains(&address)
            && slot.start.load(Ordering::Acquire) == start;
        if !ours {
            continue;
        }
        // The mark comes first: no one may take the zeros for memory.
        slot.faulted.store(true, Ordering::SeqCst);
        let page_bytes = slot.page_bytes.load(Ordering::Relaxed).max(1);
        let from = start + (address - start) / page_bytes * page_bytes;
        let length = (end - from).min(REPLACED_BYTES.next_multiple_of(page_bytes));
        // SAFETY: the range is a mapping of a live `Guard`'s owner, who has promised that nothing but
        // copies out of it depends on it; no Rust reference points into it.
        let mapped = unsafe {
            libc::mmap(
                from as *mut c_void,
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        return mapped != libc::MAP_FAILED;
    }
    false
}

/// Hands a signal that is none of ours to the handler that was there before.
fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, from_kernel: bool) {
    let handler = PREVIOUS_HANDLER.load(Ordering::Relaxed);
    let flags = PREVIOUS_FLAGS.load(Ordering::Relaxed);
    if handler == libc::SIG_IGN && !from_kernel {
        return;
    }
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // SAFETY: zeros are a valid sigaction, SIG_DFL. Returning then repeats the access that faulted,
        // which ends the process with the right address in its core; a signal that somebody sent is
        // raised again and stays pending until this handler returns.
        unsafe {
            let default: libc::sigaction = mem::zeroed();
            libc::sigaction(signal, &raw const default, ptr::null_mut());
            if !from_kernel {
                libc::raise(signal);
            }
        }
    } else if flags & libc::SA_SIGINFO != 0 {
        // SAFETY: with SA_SIGINFO, what sigaction gave is a function of three arguments, and neither
        // default nor ignore, as tested above. It gets what the kernel gave us.
        unsafe {
            let function: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                mem::transmute(handler);
            function(signal, info, context);
        }
    } else {
        // SAFETY: as above, without SA_SIGINFO: a function of one argument.
        unsafe {
            let function: extern "C" fn(c_int) = mem::transmute(handler);
            function(signal);
        }
    }
}

/// The size of a page of this process's mappings.
pub(super) fn page_bytes() -> io::Result<usize> {
    // SAFETY: sysconf has no preconditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).map_err(|_| io::Error::last_os_error())
}
