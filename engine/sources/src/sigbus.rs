//! Surviving SIGBUS: a file that shrinks under its mapping, a guarded hole, failed hardware.
//!
//! Touching an unavailable page of a mapping raises SIGBUS in the thread that touches it. A
//! process-wide handler is installed with the first mapping. It looks the address up in a fixed
//! table of ranges, maps zeros there, and marks what it has replaced. The copy then continues; its
//! caller checks the mark, discards the copy and mends what was replaced. A SIGBUS outside these
//! ranges goes to the handler that was installed before.
//!
//! A thread that reads mappings must not block SIGBUS: the kernel would end the process.
//!
//! # Order of memory accesses
//!
//! The thread that faults is the thread that copies. It has made the range's [`Guard`], or has got
//! it from another thread, so it sees [`USED`] and the fields of its own slot without further
//! order. The mark is written and read by this one thread, too. Only the slots of other ranges
//! change meanwhile: the handler must not combine `start` of one range with `end` of the next range
//! of the same slot.
//!
//! - A slot passes to another range by three stores: `start` = 0, the new `end`, the new `start`.
//!   The second and the third are stores with release: a release store stays behind all earlier
//!   stores of its thread. The next owner of the slot sees the 0, since it acquires `taken`, which
//!   the previous owner releases.
//! - The handler loads `start`, `end` and `start` with acquire: later loads stay behind an acquire
//!   load. If it has loaded a new `end`, then its second load of `start` sees the 0 or a later
//!   value. If its first load has seen the new `start`, its load of `end` sees the new `end`.
//!
//! So two equal values of `start` other than 0 enclose the `end` of the same range. Its owner may
//! have unmapped that range meanwhile. It still does not hold the address: the faulting range was
//! mapped all the time, and live ranges do not overlap.
//!
//! Not for: errors of `pread`, which are values. [`super::mapping`] is the only user.
#![allow(unsafe_code, reason = "a signal handler, and the system calls it may make")]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::ops::Range;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering, compiler_fence};

/// Largest number of ranges watched at once: 64 guests with 32 memory files each, twice. A guest
/// whose clock stands still is opened a second time while it is watched. A slot that was never
/// used costs neither memory (it is in `.bss`) nor time.
pub(super) const RANGES_MAX: usize = 4096;

/// Number of bytes that the handler replaces at once. A larger value would discard more of the
/// intact mapping. With a smaller one, a request of 4 GiB over missing pages only could exceed the
/// limit of mappings of a process (65,530 by default).
pub(super) const REPLACED_BYTES: usize = 1 << 20;

/// A watched range of addresses. The handler takes no lock, so all fields are atomics.
#[derive(Debug)]
struct SigbusSlot {
    taken: AtomicBool,
    /// Address of the first byte; 0 while the slot is not in use.
    start: AtomicUsize,
    /// Address after the last byte.
    end: AtomicUsize,
    /// Alignment of a mapping over a part of the range: the page size, or that of a huge page.
    page_bytes: AtomicUsize,
    /// Address of the first byte that the handler has replaced since the last repair.
    replaced_start: AtomicUsize,
    /// Address after the last such byte; 0 if there is none.
    replaced_end: AtomicUsize,
}

impl SigbusSlot {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            page_bytes: AtomicUsize::new(0),
            replaced_start: AtomicUsize::new(0),
            replaced_end: AtomicUsize::new(0),
        }
    }

    /// Extends what counts as replaced. Only the thread that copies calls it, from the handler.
    fn mark(&self, range: &Range<usize>) {
        let start = self.replaced_start.load(Ordering::Relaxed).min(range.start);
        let end = self.replaced_end.load(Ordering::Relaxed).max(range.end);
        self.replaced_start.store(start, Ordering::Relaxed);
        self.replaced_end.store(end, Ordering::Relaxed);
    }

    fn unmark(&self) {
        self.replaced_end.store(0, Ordering::Relaxed);
        self.replaced_start.store(usize::MAX, Ordering::Relaxed);
    }
}

static SLOTS: [SigbusSlot; RANGES_MAX] = [const { SigbusSlot::new() }; RANGES_MAX];
/// Number of slots that were ever in use: those behind them need no lookup.
static USED: AtomicUsize = AtomicUsize::new(0);
static INSTALL: Once = Once::new();
/// The handler that was installed before, and its flags, in the form of sigaction(2).
static PREVIOUS_HANDLER: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static PREVIOUS_FLAGS: AtomicI32 = AtomicI32::new(0);

/// Watches a range for as long as it lives. Drop it before the range is unmapped.
#[derive(Debug)]
pub(super) struct Guard {
    slot: &'static SigbusSlot,
}

impl Guard {
    /// Watches `bytes` from address `start` on. They must be a mapping owned by the caller that is
    /// used for copying out of it only. `None` if the table is full.
    pub(super) fn new(start: usize, bytes: usize, page_bytes: usize) -> Option<Self> {
        INSTALL.call_once(install);
        let end = start.checked_add(bytes)?;
        let is_free = |slot: &SigbusSlot| !slot.taken.swap(true, Ordering::Acquire);
        let index = SLOTS.iter().position(is_free)?;
        let slot = &SLOTS[index];
        slot.unmark();
        slot.page_bytes.store(page_bytes.max(1), Ordering::Relaxed);
        // With release, each: see the module.
        slot.end.store(end, Ordering::Release);
        slot.start.store(start, Ordering::Release);
        USED.fetch_max(index + 1, Ordering::Relaxed);
        Some(Self { slot })
    }

    /// Whether a byte of the range has raised SIGBUS since the mark was last cleared. Bytes read
    /// since then may be zeros from the handler.
    #[inline]
    pub(super) fn faulted(&self) -> bool {
        self.slot.replaced_end.load(Ordering::Relaxed) != 0
    }

    /// The addresses between the first and the last byte that the handler has replaced since the
    /// mark was last cleared; empty if there are none.
    pub(super) fn replaced(&self) -> Range<usize> {
        let end = self.slot.replaced_end.load(Ordering::Relaxed);
        self.slot.replaced_start.load(Ordering::Relaxed).min(end)..end
    }

    /// Clears the mark. Call it once everything in [`Self::replaced`] is mended.
    pub(super) fn unmark(&self) {
        self.slot.unmark();
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
    // The kernel reports a failed page that nothing has touched yet, to any thread (`kill_proc`,
    // mm/memory-failure.c). A copy that touches the page raises a signal of its own.
    let is_advice = code == libc::BUS_MCEERR_AO;
    let is_handled = match slot_of(address).filter(|_| from_kernel) {
        Some(_) if is_advice => true,
        Some((slot, range)) => survive(slot, &range, address),
        None => false,
    };
    if !is_handled {
        forward(signal, info, context, from_kernel && !is_advice);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// The watched range that holds an address.
fn slot_of(address: usize) -> Option<(&'static SigbusSlot, Range<usize>)> {
    let used = USED.load(Ordering::Relaxed).min(RANGES_MAX);
    SLOTS[..used].iter().find_map(|slot| {
        let start = slot.start.load(Ordering::Acquire);
        let end = slot.end.load(Ordering::Acquire);
        // Read `start` a second time: the slot may just have passed to another range.
        let is_watched = start != 0
            && (start..end).contains(&address)
            && slot.start.load(Ordering::Acquire) == start;
        is_watched.then_some((slot, start..end))
    })
}

/// Maps zeros over the bytes from the page of `address` on, within its watched range. `false` if
/// mapping fails.
fn survive(slot: &SigbusSlot, range: &Range<usize>, address: usize) -> bool {
    let page_bytes = slot.page_bytes.load(Ordering::Relaxed);
    let from = range.start + (address - range.start) / page_bytes * page_bytes;
    let length = (range.end - from).min(REPLACED_BYTES.next_multiple_of(page_bytes));
    // Set the mark first: the zeros must not pass as memory. The handler runs in the thread that
    // reads the mark, so only the compiler's order matters.
    slot.mark(&(from..from + length));
    compiler_fence(Ordering::SeqCst);
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
    mapped != libc::MAP_FAILED
}

/// Passes a signal from outside the watched ranges to the previous handler. A fault happens again
/// when this handler returns; other signals do not.
fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, is_fault: bool) {
    let handler = PREVIOUS_HANDLER.load(Ordering::Relaxed);
    let flags = PREVIOUS_FLAGS.load(Ordering::Relaxed);
    if handler == libc::SIG_IGN && !is_fault {
        return;
    }
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // SAFETY: zeros are a valid sigaction, SIG_DFL. Returning then repeats the access that
        // faulted, which ends the process with the right address in its core. Any other signal is
        // raised again and stays pending until this handler returns.
        unsafe {
            let default: libc::sigaction = mem::zeroed();
            libc::sigaction(signal, &raw const default, ptr::null_mut());
            if !is_fault {
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
