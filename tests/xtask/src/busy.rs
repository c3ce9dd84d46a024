//! Measures how busy the host is, and makes it busy.

use std::time::Duration;

/// Starts loops that keep processors busy until xtask ends.
pub(crate) fn spin(count: usize) {
    for _ in 0..count {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
}

/// The number of processors that were idle during `time`, which this waits for.
pub(crate) fn idle_processors(time: Duration) -> f64 {
    let read = || std::fs::read_to_string("/proc/stat").ok().and_then(|text| ticks(&text));
    let before = read();
    std::thread::sleep(time);
    let (Some(before), Some(after)) = (before, read()) else { return 0.0 };
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let all = after.1.saturating_sub(before.1).max(1);
    after.0.saturating_sub(before.0) as f64 / all as f64 * count as f64
}

/// Idle ticks and all ticks of the processors since boot (proc(5), /proc/stat: `cpu`).
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Option<Vec<u64>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is part of user.
    let ticks = ticks.filter(|ticks| ticks.len() >= 8)?;
    Some((ticks[3] + ticks[4], ticks[..8].iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_ticks_are_those_without_work() {
        let stat = "cpu  10 1 5 100 20 2 3 4 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(ticks(stat), Some((120, 145)));
        assert_eq!(ticks("cpu  1 2 3\n"), None);
        assert_eq!(ticks(""), None);
    }
}
