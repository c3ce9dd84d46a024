//! Panics that a thread survives: a bug in one part must not end the others.
//!
//! Not for: errors. A panic is a bug, and is reported as one.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::time::{Duration, Instant};

thread_local! {
    /// The message and the place of the last panic of this thread.
    static LAST: Cell<Option<String>> = const { Cell::new(None) };
}

/// Runs what may panic; returns the panic's message, and its place after [`note`]. It is printed,
/// too.
///
/// What `run` has changed may be half changed afterwards, so callers must drop it.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    // The compiler cannot check what this function's documentation demands of callers.
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|payload| LAST.take().unwrap_or_else(|| message(&*payload).to_owned()))
}

/// Notes the message and the place of each panic from now on. The first call allocates.
pub fn note() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |panic| {
            print(panic);
            let text = message(panic.payload());
            let place = panic.location().map(|place| format!(" ({place})")).unwrap_or_default();
            // A thread that is about to end has no room for it, and nobody to read it.
            let _ = LAST.try_with(|last| last.set(Some(format!("{text}{place}"))));
        }));
    });
}

fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

/// The pause before something that has panicked is started again. It doubles from time to time, up
/// to a maximum.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_mins(1);
/// What has worked for so long is no repeated failure.
const CALM: Duration = Duration::from_mins(10);

/// When something was started again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restarts {
    last: Option<Instant>,
    /// The number of consecutive restarts.
    count: u32,
}

impl Restarts {
    /// Notes a panic; returns the pause before the next start.
    pub fn add(&mut self, now: Instant) -> Duration {
        let last = self.last.replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) > CALM) {
            self.count = 0;
        }
        let pause = PAUSE_FIRST.saturating_mul(1 << self.count.min(20)).min(PAUSE_MOST);
        self.count += 1;
        pause
    }

    /// Returns the number of consecutive restarts.
    pub const fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_text_with_its_place() {
        note();
        assert_eq!(caught(|| 7), Ok(7));
        let line = line!() + 1;
        let found = caught(|| panic!("index {}", 5)).unwrap_err();
        assert!(found.starts_with("index 5 (") && found.contains("panics.rs:"), "{found}");
        assert!(found.contains(&format!(":{line}:")), "{found}");
        let found = caught(|| std::panic::panic_any(3_u8)).unwrap_err();
        assert!(found.starts_with("a panic ("), "{found}");
    }

    #[test]
    fn what_panics_again_and_again_is_started_more_rarely() {
        let (mut now, mut restarts) = (Instant::now(), Restarts::default());
        let pauses: Vec<u128> = (0..11)
            .map(|_| {
                let pause = restarts.add(now);
                now += pause;
                pause.as_millis()
            })
            .collect();
        let doubling = [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000];
        assert_eq!((pauses, restarts.count()), (doubling.to_vec(), 11));
        now += CALM + PAUSE_MOST;
        assert_eq!((restarts.add(now), restarts.count()), (PAUSE_FIRST, 1));
    }
}
