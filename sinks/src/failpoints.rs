//! Panics on purpose, to test what survives them: only with the feature `failpoints`, which no
//! build for users has.

#[cfg(feature = "failpoints")]
use std::sync::OnceLock;
#[cfg(feature = "failpoints")]
use std::sync::atomic::{AtomicU64, Ordering};

/// Panics as the environment variable `PANOPTES_FAILPOINTS` requests: with `scan=5,loop=3`, the
/// fifth time that the place `scan` is reached, and the third time that `loop` is.
#[cfg(feature = "failpoints")]
pub fn reach(place: &str) {
    static LEFT: OnceLock<Vec<(String, AtomicU64)>> = OnceLock::new();
    let left = LEFT.get_or_init(|| {
        let text = std::env::var("PANOPTES_FAILPOINTS").unwrap_or_default();
        let points = text.split(',').filter_map(|point| point.split_once('='));
        let points =
            points.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
        points.map(|(name, count)| (name, AtomicU64::new(count))).collect()
    });
    for (_, left) in left.iter().filter(|(name, _)| name == place) {
        assert!(left.fetch_sub(1, Ordering::Relaxed) != 1, "the failpoint {place}");
    }
}

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
pub const fn reach(_: &str) {}
