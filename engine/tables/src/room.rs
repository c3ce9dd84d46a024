//! Room for collections: all memory of the engine is allocated here, when something is made.
//!
//! [`measure`] tells the size of something before it is made. It runs the same constructors, which
//! then allocate nothing and count what they would. So the size of something cannot differ from
//! what is counted. [`touch_unless`] makes something whose memory is resident at once, so that no
//! scan waits for the kernel, or finds that there is none left.

use core::cell::{Cell, RefCell};
use core::hint::black_box;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// Size in bytes of the smallest page.
const PAGE_BYTES_MIN: usize = 4096;
/// Number of pages after which a request to stop is looked for: 4 MiB.
const PART_PAGES: usize = 1024;

/// What this thread does with a request for room.
#[derive(Clone, Copy)]
enum Mode {
    /// Allocate. The kernel provides pages when they are first written.
    Allocate,
    /// Allocate, and write to each page.
    Touch,
    /// Count these bytes, and allocate nothing.
    Measure(u64),
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Allocate) };
    /// Type and bytes of each measured collection, if [`parts`] asks.
    static PARTS: RefCell<Option<Vec<(&'static str, u64)>>> = const { RefCell::new(None) };
    /// The request to stop writing to pages.
    static STOP: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Restores the mode even if a constructor panics.
struct Restore(Mode, Option<Arc<AtomicBool>>);

impl Restore {
    fn after(mode: Mode, stop: Option<Arc<AtomicBool>>) -> Self {
        Self(MODE.replace(mode), STOP.replace(stop))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        MODE.set(self.0);
        STOP.set(self.1.take());
    }
}

/// Number of bytes that `make` would allocate by the functions of this module; `None` if it is not
/// a number of 64 bits. What it makes has no room for anything and is dropped.
pub fn measure<T>(make: impl FnOnce() -> T) -> Option<u64> {
    let _restore = Restore::after(Mode::Measure(0), None);
    drop(make());
    match MODE.get() {
        Mode::Measure(u64::MAX) => None,
        Mode::Measure(bytes) => Some(bytes),
        Mode::Allocate | Mode::Touch => Some(0),
    }
}

/// Makes something, and writes to each page of its memory.
pub fn touch<T>(make: impl FnOnce() -> T) -> T {
    let _restore = Restore::after(Mode::Touch, None);
    make()
}

/// The same until `must_stop` is set. What is made then can be used, too.
pub fn touch_unless<T>(must_stop: &Arc<AtomicBool>, make: impl FnOnce() -> T) -> T {
    let _restore = Restore::after(Mode::Touch, Some(Arc::clone(must_stop)));
    make()
}

fn must_stop() -> bool {
    STOP.with_borrow(|stop| stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)))
}

/// The type and the bytes of everything that `measure` measures: where the memory goes.
pub fn parts(measure: impl FnOnce()) -> Vec<(&'static str, u64)> {
    PARTS.set(Some(Vec::new()));
    measure();
    PARTS.take().unwrap_or_default()
}

/// Counts room for `count` entries, if this thread measures. Returns whether it does.
fn count<T>(count: usize) -> bool {
    let Mode::Measure(before) = MODE.get() else { return false };
    let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
    PARTS.with_borrow_mut(|parts| {
        if let Some(parts) = parts {
            parts.push((core::any::type_name::<T>(), bytes));
        }
    });
    MODE.set(Mode::Measure(before.saturating_add(bytes)));
    true
}

/// An empty list with room for `capacity` entries.
pub fn list<T>(capacity: usize) -> Vec<T> {
    if count::<T>(capacity) {
        return Vec::new();
    }
    let mut list = Vec::with_capacity(capacity);
    if matches!(MODE.get(), Mode::Touch) && size_of::<T>() > 0 {
        let step = (PAGE_BYTES_MIN / size_of::<T>()).max(1);
        let spare = list.spare_capacity_mut();
        for part in spare.chunks_mut(step * PART_PAGES) {
            if must_stop() {
                return list;
            }
            part.iter_mut().step_by(step).for_each(|entry| *entry = MaybeUninit::zeroed());
        }
        if let Some(last) = spare.last_mut() {
            *last = MaybeUninit::zeroed();
        }
        // The compiler must not find out that nobody reads these.
        black_box(spare);
    }
    list
}

/// `count` copies of a value.
pub fn copies<T: Clone>(value: T, count: usize) -> Box<[T]> {
    match MODE.get() {
        // Zeros take no time.
        Mode::Allocate => vec![value; count].into_boxed_slice(),
        Mode::Touch if must_stop() => vec![value; count].into_boxed_slice(),
        Mode::Touch | Mode::Measure(_) => filled(count, || value.clone()),
    }
}

/// `count` values.
pub fn filled<T>(count: usize, mut value: impl FnMut() -> T) -> Box<[T]> {
    let mut list = list(count);
    if !matches!(MODE.get(), Mode::Measure(_)) {
        list.extend(core::iter::repeat_with(&mut value).take(count));
    }
    list.into_boxed_slice()
}

/// One value on the heap.
pub fn boxed<T>(value: T) -> Box<T> {
    count::<T>(1);
    Box::new(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Made {
        words: Vec<u64>,
        flags: Box<[bool]>,
        pair: Box<(u32, u32)>,
    }

    fn make(count: usize) -> Made {
        Made { words: list(count), flags: copies(true, count), pair: boxed((1, 2)) }
    }

    #[test]
    fn what_is_measured_is_what_is_allocated() {
        assert_eq!(measure(|| make(1000)), Some(8000 + 1000 + 8));
        let parts = parts(|| _ = measure(|| make(1000)));
        assert_eq!(parts, [("u64", 8000), ("bool", 1000), ("(u32, u32)", 8)]);
        let made = make(1000);
        assert_eq!((made.words.capacity(), made.flags.len(), *made.pair), (1000, 1000, (1, 2)));
        assert!(made.words.is_empty() && made.flags.iter().all(|&flag| flag));
    }

    #[test]
    fn room_that_no_machine_has_is_measured() {
        assert_eq!(measure(|| make(1 << 60)), Some((1 << 63) + (1 << 60) + 8));
        assert_eq!(measure(|| make(usize::MAX)), None);
        assert_eq!(measure(|| (list::<u64>(1 << 61), list::<u64>(1 << 60))), None);
    }

    #[test]
    fn touched_memory_has_the_same_content() {
        let made = touch(|| make(10_000));
        assert_eq!((made.words.capacity(), made.flags.len()), (10_000, 10_000));
        assert!(made.words.is_empty() && made.flags.iter().all(|&flag| flag));
        assert!(touch(|| list::<()>(5)).is_empty());
        assert!(touch(|| list::<[u8; 9000]>(3)).is_empty());
    }

    /// Hundreds of MiB take longer than a request to stop may.
    #[test]
    fn no_page_is_written_to_after_a_request_to_stop() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
            let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
            pages.expect("it is a number") * PAGE_BYTES_MIN
        };
        let (stop, before) = (Arc::new(AtomicBool::new(true)), resident());
        let made = touch_unless(&stop, || (list::<u64>(1 << 26), make(10_000)));
        assert_eq!((made.0.capacity(), made.1.flags.len()), (1 << 26, 10_000));
        assert!(made.1.flags.iter().all(|&flag| flag));
        assert!(resident() < before + (256 << 20), "{} bytes more", resident() - before);
        stop.store(false, Ordering::Relaxed);
        let made = touch_unless(&stop, || list::<u64>(1 << 24));
        assert!(resident() > before + (120 << 20), "{} bytes", made.capacity());
        // Nobody stops the next one.
        stop.store(true, Ordering::Relaxed);
        assert!(touch(|| !must_stop()));
    }

    #[test]
    fn the_mode_ends_with_a_panic() {
        let panicked = std::panic::catch_unwind(|| measure(|| panic!("it is a test")));
        assert!(panicked.is_err());
        assert_eq!(list::<u8>(100).capacity(), 100);
    }
}
