//! The status line of `panoptes watch` on a terminal: systems, scan time, objects and alerts.
//!
//! [`Messages`] draws it on standard error. Lines for people on standard output erase it
//! (`LineStyle::has_status`), and it comes back with the next look.

use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

use super::counters::Sums;
use super::metrics::Figures;
use crate::message::Messages;

/// Time from one look at the figures to the next, and how often the line is drawn meanwhile.
const STATUS_LINE_INTERVAL: Duration = Duration::from_secs(1);
const DRAWN: u32 = 4;
/// The width of a terminal that does not state its own.
const WIDTH: u16 = 80;

/// Draws the line until `stop`. A terminal that takes no output delays it.
pub(super) fn show_status(figures: &Figures, stop: &AtomicBool, messages: &Messages) {
    let mut line = Line::default();
    while !stop.load(Ordering::Relaxed) {
        line.update(figures.sums());
        for _ in 0..DRAWN {
            let width = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
            messages.set_status(line.text(if width == 0 { WIDTH } else { width }));
            sleep(STATUS_LINE_INTERVAL / DRAWN);
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

/// What the line shows.
#[derive(Debug, Default)]
struct Line {
    sums: Sums,
    /// The average time of a scan between the last two looks that had scans between them.
    scan: Option<Duration>,
}

impl Line {
    fn update(&mut self, sums: Sums) {
        let time_ns = sums.scan_ns.saturating_sub(self.sums.scan_ns);
        // Systems that are gone take their scans with them.
        let scans = sums.scans.saturating_sub(self.sums.scans);
        if let Some(average) = time_ns.checked_div(scans) {
            self.scan = Some(Duration::from_nanos(average));
        }
        self.sums = sums;
    }

    /// The line for a terminal of so many columns, of which it leaves the last one free: it must
    /// stay one row to be erased.
    fn text(&self, width: u16) -> String {
        let Sums { systems, watched, objects, alerts, .. } = self.sums;
        let of = if watched < systems { format!(" of {systems}") } else { String::new() };
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        // Writing to a string does not fail.
        let mut text = format!("watching {watched}{of} system{}", plural(systems as u64));
        if let Some(scan) = self.scan.filter(|_| watched > 0) {
            let plural = plural(objects);
            let _ = write!(text, ", scan {}, {objects} object{plural}", duration(scan));
        }
        let _ = write!(text, ", {alerts} alert{}", plural(alerts));
        text.truncate(usize::from(width).saturating_sub(1));
        text
    }
}

fn duration(time: Duration) -> String {
    if time < STATUS_LINE_INTERVAL {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_systems_scan_time_objects_and_alerts() {
        let mut line = Line::default();
        line.update(Sums { systems: 1, ..Sums::default() });
        assert_eq!(line.text(80), "watching 0 of 1 system, 0 alerts");
        let first = Sums {
            systems: 2,
            watched: 2,
            scans: 100,
            scan_ns: 420_000_000,
            objects: 35_120,
            alerts: 1,
        };
        line.update(first);
        let text = "watching 2 systems, scan 4.2 ms, 35120 objects, 1 alert";
        assert_eq!(line.text(80), text);
        // The time is that of the scans since the last look.
        let later = Sums { scans: 102, scan_ns: 3_420_000_000, ..first };
        line.update(later);
        assert!(line.text(80).contains(", scan 1.5 s,"), "{}", line.text(80));
        line.update(later);
        assert!(line.text(80).contains(", scan 1.5 s,"), "no scan since then");
        line.update(Sums { watched: 1, scans: 7, scan_ns: 5, ..later });
        assert!(line.text(80).starts_with("watching 1 of 2 systems, scan 1.5 s"));
    }

    #[test]
    fn the_line_is_one_row() {
        let mut line = Line::default();
        line.update(Sums { systems: 1, watched: 1, objects: 1, ..Sums::default() });
        assert_eq!(line.text(9), "watching");
        assert_eq!(line.text(1), "");
        assert_eq!(line.text(0), "");
    }
}
