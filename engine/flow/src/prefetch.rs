//! Asking the processor for memory before it is needed.
#![allow(unsafe_code, reason = "the intrinsic takes an address")]

use panoptes_decoders::source::CACHE_LINE_BYTES;

/// Asks the processor to fetch a value into its cache. Unlike a load, nothing waits for it.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    let first = core::ptr::from_ref(value).cast::<u8>();
    for at in (0..size_of::<T>()).step_by(CACHE_LINE_BYTES) {
        prefetch_line(first.wrapping_add(at));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(address: *const u8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE is part of x86-64, and a prefetch has no effect that a program can see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

// Elsewhere the intrinsic is not stable.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line(_address: *const u8) {}
