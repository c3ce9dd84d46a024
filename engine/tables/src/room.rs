//! Room for collections: all memory of the engine is allocated here, when something is made.
//!
//! What is made can be measured before: [`measure`] runs the same constructors, which then allocate
//! nothing and count what they would. So the size of something cannot differ from what is counted.
//! [`touch`] makes something whose memory is resident at once, so that no scan waits for the
//! kernel, or finds that there is none left.

use core::cell::Cell;
use core::hint::black_box;
use core::mem::MaybeUninit;

/// Size in bytes of the smallest page.
const PAGE_BYTES: usize = 4096;

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
}

/// Restores the mode even if a constructor panics.
struct Restore(Mode);

impl Drop for Restore {
    fn drop(&mut self) {
        MODE.set(self.0);
    }
}

/// Number of bytes that `make` would allocate by the functions of this module; `None` if it is not
/// a number of 64 bits. What it makes has no room for anything and is dropped.
pub fn measure<T>(make: impl FnOnce() -> T) -> Option<u64> {
    let _restore = Restore(MODE.replace(Mode::Measure(0)));
    drop(make());
    match MODE.get() {
        Mode::Measure(u64::MAX) => None,
        Mode::Measure(bytes) => Some(bytes),
        Mode::Allocate | Mode::Touch => Some(0),
    }
}

/// Makes something, and writes to each page of its memory.
pub fn touch<T>(make: impl FnOnce() -> T) -> T {
    let _restore = Restore(MODE.replace(Mode::Touch));
    make()
}

/// Counts room for `count` entries, if this thread measures. Returns whether it does.
fn count<T>(count: usize) -> bool {
    let Mode::Measure(before) = MODE.get() else { return false };
    let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
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
        let step = (PAGE_BYTES / size_of::<T>()).max(1);
        let spare = list.spare_capacity_mut();
        spare.iter_mut().step_by(step).for_each(|entry| *entry = MaybeUninit::zeroed());
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

    #[test]
    fn the_mode_ends_with_a_panic() {
        let panicked = std::panic::catch_unwind(|| measure(|| panic!("it is a test")));
        assert!(panicked.is_err());
        assert_eq!(list::<u8>(100).capacity(), 100);
    }
}
