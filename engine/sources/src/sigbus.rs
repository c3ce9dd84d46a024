//! Surviving SIGBUS: a file that shrinks under its mapping, a guarded hole, failed hardware.
//!
//! Touching an unavailable page of a mapping raises SIGBUS in the thread that touches it. A
//! process-wide handler is installed with the first mapping. It looks the address up in a fixed
//! table of ranges, maps zeros there, and marks the range. The copy then goes on; its caller checks
//! the mark, discards the copy and mends the mapping. A SIGBUS outside these ranges goes to the
//! handler that was installed before.
//!
//! A thread that reads mappings must not block SIGBUS: the kernel would end the process.
//!
//! Not for: errors of `pread`, which are values. [`super::mapping`] is the only user.
#![allow(unsafe_code, reason = "a signal handler, and the system calls it may make")]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// Largest number of ranges watched at once; a lookup in the handler checks each.
pub(super) const RANGES_MAX: usize = 256;

/// Number of bytes that the handler replaces at once. A larger value would discard more of the
/// intact mapping. With a smaller one, a request of 4 GiB over missing pages only could exceed the
/// limit of mappings of a process (65,530 by default).
pub(super) const REPLACED_BYTES: usize = 1 << 20;

/// A watched range of addresses. The handler takes no lock, so all fields are atomics.
#[derive(Debug)]
struct Slot {
    taken: AtomicBool,
    /// Address of the first byte; 0 while the slot is not in use.
    start: AtomicUsize,
    /// Address after the last byte.
    end: AtomicUsize,
    /// Alignment of a mapping over a part of the range: the page size, or that of a huge page.
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
/// The handler that was installed before, and its flags, in the form of sigaction(2).
static PREVIOUS_HANDLER: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static PREVIOUS_FLAGS: AtomicI32 = AtomicI32::new(0);

/// Watches a range for as long as it lives. Drop it before the range is unmapped.
#[derive(Debug)]
pub(super) struct Guard {
    slot: &'static Slot,
}

impl Guard {
    /// Watches `bytes` from address `start` on. They must be a mapping owned by the caller that is
    /// used for copying out of it only. `None` if the table is full.
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

    /// Whether a byte of the range has raised SIGBUS since the mark was last cleared. Bytes read
    /// since then may be zeros from the handler.
    #[inline]
    pub(super) fn faulted(&self) -> bool {
        self.slot.faulted.load(Ordering::Relaxed)
    }

    /// Clears the mark. Call it once the range is mended.
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

/// Installs the handler and remembers the previous one for all other signals.
fn install() {
    // SAFETY: sigaction is plain data for which zeros are valid (SIG_DFL, no flags, empty mask).
    let (mut previous, mut new): (libc::sigaction, libc::sigaction) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    // SAFETY: both pointers are null or point to a live sigaction. The previous handler is read and
    // stored before the new one is installed, so the new one never runs without knowing it.
    unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) };
    PREVIOUS_HANDLER.store(previous.sa_sigaction, Ordering::Relaxed);
    PREVIOUS_FLAGS.store(previous.sa_flags, Ordering::Relaxed);
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
    new.sa_sigaction = handler as usize;
    // ONSTACK: Rust's threads have a signal stack, which a fault near the end of a stack needs.
    new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `new` is a valid sigaction whose handler is async-signal-safe: it uses atomics, mmap,
    // sigaction and raise only. The call cannot fail: SIGBUS may be caught and the pointers are
    // valid.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const new, ptr::null_mut()) };
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the location belongs to this thread; the interrupted code must find its errno
    // unchanged.
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

/// Maps zeros over the bytes from the page of `address` on, within its watched range. `false` if no
/// range holds the address or mapping fails.
fn survive(address: usize) -> bool {
    for slot in &SLOTS {
        let start = slot.start.load(Ordering::Acquire);
        let end = slot.end.load(Ordering::Relaxed);
        // Read `start` a second time: the slot may just have passed to another range.
        let is_watched = start != 0
            && (start..end).contains(&address)
            && slot.start.load(Ordering::Acquire) == start;
        if !is_watched {
            continue;
        }
        // Set the mark first: the zeros must not pass as memory.
        slot.faulted.store(true, Ordering::SeqCst);
        let page_bytes = slot.page_bytes.load(Ordering::Relaxed).max(1);
        let from = start + (address - start) / page_bytes * page_bytes;
        let length = (end - from).min(REPLACED_BYTES.next_multiple_of(page_bytes));
        // SAFETY: the range is a mapping of a live `Guard`'s owner, who has promised to use it for
        // copying out only; no Rust reference points into it.
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

/// Passes a signal from outside the watched ranges to the previous handler.
fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, from_kernel: bool) {
    let handler = PREVIOUS_HANDLER.load(Ordering::Relaxed);
    let flags = PREVIOUS_FLAGS.load(Ordering::Relaxed);
    if handler == libc::SIG_IGN && !from_kernel {
        return;
    }
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // SAFETY: zeros are a valid sigaction, SIG_DFL. Returning then repeats the access that
        // faulted, which ends the process with the right address in its core. A signal that a
        // process sent is raised again and stays pending until this handler returns.
        unsafe {
            let default: libc::sigaction = mem::zeroed();
            libc::sigaction(signal, &raw const default, ptr::null_mut());
            if !from_kernel {
                libc::raise(signal);
            }
        }
    } else if flags & libc::SA_SIGINFO != 0 {
        // SAFETY: with SA_SIGINFO, the handler from sigaction is a function of three arguments; it
        // is neither default nor ignore, as tested above. It gets the arguments from the kernel.
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
