//! What an operator does meanwhile: files are rotated, and an interface is removed and made again.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::network::{LEFT, RIGHT, Sender, add, remove};
use super::quiet::Neighbour;
use super::sensor::files;

/// How often each is done in a run, if that is long enough.
pub(crate) const TIMES: u32 = 10;
/// The time from one removal to the next, at least: the sensor looks once a second.
const REMOVAL_MIN: Duration = Duration::from_secs(4);
/// The time in which a file is surely looked at again.
const LOOKED: Duration = Duration::from_millis(2500);
/// The time in which packets are surely read.
const READ: Duration = Duration::from_millis(300);

/// Sleeps unless `stop` comes; whether the time has passed.
pub(crate) fn rest(time: Duration, stop: &AtomicBool) -> bool {
    let end = Instant::now() + time;
    while !stop.load(Ordering::Relaxed) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
    false
}

/// Rotates files: one is renamed, every other time with a new one in its place (logrotate's
/// `create`); the other one is copied and cut (`copytruncate`). The number of rotations.
pub(crate) fn rotate(folder: &Path, period: Duration, stop: &AtomicBool) -> Result<u32, String> {
    let wrong = |error: std::io::Error| format!("a rotation: {error}");
    let (moved, cut) = (folder.join(files::MOVED), folder.join(files::CUT));
    let mut count = 0;
    while count < TIMES && rest(period.max(LOOKED), stop) {
        fs::rename(&moved, folder.join(format!("{}.{count}", files::MOVED))).map_err(wrong)?;
        if count % 2 == 1 {
            File::create_new(&moved).map_err(wrong)?;
        }
        fs::copy(&cut, folder.join(format!("{}.{count}", files::CUT))).map_err(wrong)?;
        File::options().write(true).open(&cut).and_then(|file| file.set_len(0)).map_err(wrong)?;
        count += 1;
    }
    Ok(count)
}

/// Sends conversations on the second pair, and removes it again and again. `messages` returns what
/// the sensor has printed. The number of removals.
pub(crate) fn remove_interface(
    neighbour: &mut Neighbour,
    period: Duration,
    messages: impl Fn() -> String,
    stop: &AtomicBool,
) -> Result<u32, String> {
    let again = format!("{}: auditing again", RIGHT[1]);
    let mut count = 0;
    while count < TIMES {
        let sender = Sender::new(LEFT[1])?;
        for frame in neighbour.next() {
            if !sender.send(&frame) {
                return Err(format!("{} has not accepted a packet", LEFT[1]));
            }
        }
        if !rest(period.max(REMOVAL_MIN).saturating_sub(READ), stop) || !rest(READ, stop) {
            break;
        }
        remove(1)?;
        add(1)?;
        count += 1;
        let begin = Instant::now();
        while messages().matches(&again).count() < count as usize {
            if begin.elapsed() > panoptes_bounded::BOUND {
                return Err(format!("{} is not audited again", RIGHT[1]));
            }
            thread::sleep(READ / 10);
        }
    }
    Ok(count)
}
