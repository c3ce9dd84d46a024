//! When the scanners waited for a processor, from samples of their threads' times.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use crate::watcher::ThreadTimes;

/// Samples of the times of the scanners' threads, and of what the host took from this machine.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    threads: HashMap<u32, Vec<(SystemTime, ThreadTimes)>>,
    stolen: Vec<(SystemTime, Duration)>,
}

/// A count of stolen time may be late by so much: the kernel counts at a tick.
const COUNT_DELAY: Duration = Duration::from_millis(20);

impl Samples {
    /// Adds a sample of each thread.
    pub(crate) fn add(&mut self, at: SystemTime, threads: Vec<(u32, ThreadTimes)>) {
        for (id, times) in threads {
            self.threads.entry(id).or_default().push((at, times));
        }
    }

    /// How long scanners waited for a processor between two times: that of the thread that waited
    /// least, since it is not known which of them scanned the system.
    pub(crate) fn waited_ns(&self, from: SystemTime, to: SystemTime) -> u64 {
        let waited = |samples: &Vec<(SystemTime, ThreadTimes)>| {
            let at = |time| at(samples, time, |times| times.waited_ns);
            at(to).saturating_sub(at(from))
        };
        self.threads.values().map(waited).min().unwrap_or(0)
    }

    /// Adds a sample of the stolen time of all processors.
    pub(crate) fn add_stolen(&mut self, at: SystemTime, stolen: Duration) {
        self.stolen.push((at, stolen));
    }

    /// How long the host ran something else on this machine's processors between two times, or
    /// shortly after them.
    pub(crate) fn stolen(&self, from: SystemTime, to: SystemTime) -> Duration {
        let until = |time| {
            let after = self.stolen.partition_point(|(at, _)| *at <= time);
            self.stolen[..after].last().or(self.stolen.first()).map_or(Duration::ZERO, |s| s.1)
        };
        until(to + COUNT_DELAY).saturating_sub(until(from))
    }

    /// How long all scanners ran between two times.
    pub(crate) fn ran_ns(&self, from: SystemTime, to: SystemTime) -> u64 {
        let ran = |samples: &Vec<(SystemTime, ThreadTimes)>| {
            let at = |time| at(samples, time, |times| times.ran_ns);
            at(to).saturating_sub(at(from))
        };
        self.threads.values().map(ran).sum()
    }
}

/// The time that the host has taken from all processors of this machine since it started, from
/// `/proc/stat` (proc_stat(5)). Zero on a machine that is not virtual.
pub(crate) fn stolen_since_boot() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = ticks_stolen(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/stat has no time"))?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

fn ticks_stolen(text: &str) -> Option<u64> {
    let mut words = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    words.nth(7)?.parse().ok()
}

/// The nice value of threads that let clocks go or take samples: a machine whose clock is late
/// counts as stopped.
const NICE: i32 = -10;

/// Gives this thread, and those that it starts, precedence, or none any more. Without the right to
/// do so, nothing changes.
pub(crate) fn take_precedence(takes: bool) {
    let _ = rustix::process::setpriority_process(None, if takes { NICE } else { 0 });
}

/// A figure at a time between samples, as if it had grown evenly between them.
fn at(
    samples: &[(SystemTime, ThreadTimes)],
    time: SystemTime,
    figure: impl Fn(&ThreadTimes) -> u64,
) -> u64 {
    let after = samples.partition_point(|(at, _)| *at <= time);
    let Some((before_at, before)) = after.checked_sub(1).and_then(|before| samples.get(before))
    else {
        return samples.first().map_or(0, |(_, times)| figure(times));
    };
    let Some((after_at, later)) = samples.get(after) else { return figure(before) };
    let part = |to: &SystemTime| to.duration_since(*before_at).unwrap_or_default().as_secs_f64();
    let grown = figure(later).saturating_sub(figure(before)) as f64;
    figure(before) + (grown * part(&time) / part(after_at).max(1e-9)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn waits_are_found_between_samples() {
        let mut samples = Samples::default();
        assert_eq!(samples.waited_ns(after(0), after(10)), 0);
        for (ms, waited_ns) in [(0, 0), (10, 0), (20, 1000), (30, 1000)] {
            let times = ThreadTimes { ran_ns: ms * 100, waited_ns };
            samples.add(after(ms), vec![(7, times)]);
        }
        assert_eq!(samples.waited_ns(after(0), after(10)), 0);
        assert_eq!(samples.waited_ns(after(10), after(15)), 500);
        assert_eq!(samples.waited_ns(after(5), after(25)), 1000);
        assert_eq!(samples.waited_ns(after(25), after(99)), 0);
        assert_eq!(samples.ran_ns(after(0), after(25)), 2500);
        let times = |ran_ns| ThreadTimes { ran_ns, waited_ns: 0 };
        samples.add(after(0), vec![(8, times(0))]);
        samples.add(after(30), vec![(8, times(30))]);
        assert_eq!(samples.waited_ns(after(5), after(25)), 0, "another thread did not wait");
        assert_eq!(samples.ran_ns(after(0), after(30)), 3030);
    }

    #[test]
    fn stolen_time_is_that_between_two_times() {
        let ms = Duration::from_millis;
        let mut samples = Samples::default();
        assert_eq!(samples.stolen(after(0), after(10)), ms(0));
        for (at, stolen) in [(100, 50), (200, 50), (300, 150), (400, 150)] {
            samples.add_stolen(after(at), ms(stolen));
        }
        assert_eq!(samples.stolen(after(0), after(99)), ms(0));
        assert_eq!(samples.stolen(after(100), after(270)), ms(0));
        assert_eq!(samples.stolen(after(100), after(290)), ms(100), "counted shortly after");
        assert_eq!(samples.stolen(after(300), after(400)), ms(0));
    }

    #[test]
    fn the_stolen_time_of_a_machine_is_read() {
        assert_eq!(ticks_stolen("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n"), Some(8));
        assert_eq!(ticks_stolen("cpu  1 2 3\n"), None);
        assert_eq!(ticks_stolen(""), None);
    }
}
