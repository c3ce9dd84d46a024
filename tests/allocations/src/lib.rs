//! A global allocator for tests that count allocations.
//!
//! A test declares `#[global_allocator] static ALLOCATOR: HookAllocator = …;` and gets a call of
//! its function for each call of the allocator. [`HookAllocator::counting`] only counts.

#![allow(unsafe_code, reason = "an allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// A call of the allocator. Sizes are in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AllocatorCall {
    Allocate { bytes: usize },
    AllocateZeroed { bytes: usize },
    Reallocate { from: usize, to: usize },
    Free { bytes: usize },
}

impl AllocatorCall {
    /// The bytes that the call asks for. `None` for a call that frees.
    pub const fn requested(self) -> Option<usize> {
        match self {
            Self::Allocate { bytes } | Self::AllocateZeroed { bytes } => Some(bytes),
            Self::Reallocate { to, .. } => Some(to),
            Self::Free { .. } => None,
        }
    }
}

/// The system's allocator, with a function that learns of each call before it.
#[derive(Debug)]
pub struct HookAllocator {
    hook: fn(AllocatorCall),
}

impl HookAllocator {
    /// Calls `hook` before each call. What `hook` allocates calls it again.
    pub const fn new(hook: fn(AllocatorCall)) -> Self {
        Self { hook }
    }

    /// Counts for [`of_thread`] and [`of_process`].
    pub const fn counting() -> Self {
        Self::new(count)
    }
}

thread_local! {
    static OF_THREAD: Cell<u64> = const { Cell::new(0) };
}
static OF_PROCESS: AtomicU64 = AtomicU64::new(0);

fn count(call: AllocatorCall) {
    if call.requested().is_some() {
        OF_THREAD.set(OF_THREAD.get() + 1);
        OF_PROCESS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Number of allocations of this thread since its start, by [`HookAllocator::counting`].
pub fn of_thread() -> u64 {
    OF_THREAD.get()
}

/// Number of allocations of all threads since the start, by [`HookAllocator::counting`].
pub fn of_process() -> u64 {
    OF_PROCESS.load(Ordering::Relaxed)
}

// SAFETY: every call goes to the system's allocator with the same arguments. The counters of
// `count` need neither memory nor a destructor.
unsafe impl GlobalAlloc for HookAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        (self.hook)(AllocatorCall::Allocate { bytes: layout.size() });
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        (self.hook)(AllocatorCall::AllocateZeroed { bytes: layout.size() });
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        (self.hook)(AllocatorCall::Reallocate { from: layout.size(), to: bytes });
        // SAFETY: `pointer` came from `System` with this layout, and the caller keeps the rest.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        (self.hook)(AllocatorCall::Free { bytes: layout.size() });
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: HookAllocator = HookAllocator::counting();

    #[test]
    fn each_kind_of_allocation_is_counted() {
        let before = of_thread();
        let mut bytes = std::hint::black_box(vec![1_u8; 16]);
        assert_eq!(of_thread(), before + 1);
        bytes.reserve_exact(4096);
        assert_eq!(of_thread(), before + 2, "a reallocation");
        drop(std::hint::black_box(bytes));
        assert_eq!(of_thread(), before + 2, "freeing");
        drop(std::hint::black_box(vec![0_u8; 16]));
        assert_eq!(of_thread(), before + 3, "zeroed");
    }

    #[test]
    fn the_process_has_the_allocations_of_all_threads() {
        let (before, here) = (of_process(), of_thread());
        let allocate = || {
            let before = of_thread();
            drop(std::hint::black_box(Box::new(1_u8)));
            of_thread() - before
        };
        let there = std::thread::scope(|scope| scope.spawn(allocate).join());
        assert_eq!(there.ok(), Some(1));
        assert!(of_process() - before > of_thread() - here);
    }
}
