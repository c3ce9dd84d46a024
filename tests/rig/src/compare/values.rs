//! Compares the attributes of one object.

use serde_json::Value;

use crate::error::{Error, Result};

const NS_PER_SECOND: i128 = 1_000_000_000;
/// The guest's two clocks are read one after the other, and its scanner derives their offset from
/// the kernel's timekeeper. So a start may be off by this much more than /proc's tick.
const CLOCK_SLACK_NS: i128 = 3_000_000;
const BRIEF_BYTES_MAX: usize = 220;

/// Converts /proc's ticks since boot to real time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Clock {
    boot_to_real_ns: i128,
    tick_ns: i128,
}

impl Clock {
    pub(super) fn parse(guest: &Value) -> Result<Self> {
        let offset = guest["_boot_to_real_ns"].as_i64();
        let rate = guest["_ticks_per_second"].as_i64().filter(|rate| *rate > 0);
        match (offset, rate) {
            (Some(offset), Some(rate)) => Ok(Self {
                boot_to_real_ns: i128::from(offset),
                tick_ns: NS_PER_SECOND / i128::from(rate),
            }),
            _ => Err(Error::new("the agent's line about the guest has no clock")),
        }
    }
}

/// Describes the differences of `seen`; attributes that were not constant are not compared. An
/// attribute that is null must not be in `seen`.
pub(super) fn differences(
    clock: Clock,
    before: &Value,
    after: &Value,
    seen: &Value,
) -> Vec<String> {
    let Some(attributes) = before.as_object() else { return Vec::new() };
    let truncated = seen["truncated"] == true;
    let mut wrong = Vec::new();
    for (name, expected) in attributes {
        if name == "_start_ticks" {
            wrong.extend(start_difference(clock, expected, seen));
        } else if !name.starts_with('_') && after.get(name) == Some(expected) {
            match seen.get(name) {
                None if expected.is_null() => {}
                None => wrong.push(format!("{name} is missing, should be {}", short(expected))),
                Some(value) if same(name, expected, value, truncated) => {}
                // A kernel thread may run at the moment of the scan, whatever it did before.
                Some(value)
                    if name == "process_state"
                        && before.get("_kernel").is_some()
                        && value == "R (running)" => {}
                Some(value) => {
                    wrong.push(format!(
                        "{name} is {}, should be {}",
                        short(value),
                        short(expected)
                    ));
                }
            }
        }
    }
    wrong
}

/// The beginning of a value, in one line.
pub(super) fn short(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > BRIEF_BYTES_MAX {
        let end = (0..=BRIEF_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn same(name: &str, expected: &Value, seen: &Value, truncated: bool) -> bool {
    if expected == seen {
        return true;
    }
    match (expected, seen) {
        // The order of an interface's addresses has no meaning.
        (Value::Array(left), Value::Array(right)) if name.ends_with("_address") => {
            let sorted = |list: &[Value]| {
                let mut texts: Vec<_> = list.iter().map(Value::to_string).collect();
                texts.sort();
                texts
            };
            sorted(left) == sorted(right)
        }
        (Value::String(left), Value::String(right)) => {
            truncated && left.starts_with(right.as_str())
        }
        (Value::Array(left), Value::Array(right)) => {
            let prefix = |(l, r): (&Value, &Value)| same(name, l, r, truncated);
            truncated && right.len() <= left.len() && left.iter().zip(right).all(prefix)
        }
        _ => false,
    }
}

/// /proc gives a start in whole ticks, rounded down.
fn start_difference(clock: Clock, ticks: &Value, seen: &Value) -> Option<String> {
    const NAME: &str = "process_creation_time_iso_8601_ns";
    let earliest = i128::from(ticks.as_i64()?) * clock.tick_ns + clock.boot_to_real_ns;
    let Some(text) = seen[NAME].as_str() else { return Some(format!("{NAME} is missing")) };
    let Some(start) = parse_time(text) else { return Some(format!("{NAME} is {text:?}, no time")) };
    let late = start - earliest;
    if (-CLOCK_SLACK_NS..clock.tick_ns + CLOCK_SLACK_NS).contains(&late) {
        return None;
    }
    Some(format!("{NAME} is {text}, {} ms away from /proc's", late / 1_000_000))
}

/// Nanoseconds since 1970 of `2025-10-22T07:31:46.905224659+00:00`.
fn parse_time(text: &str) -> Option<i128> {
    let text = text.strip_suffix("+00:00")?;
    let (date, time) = text.split_once('T')?;
    let (clock, fraction) = time.split_once('.')?;
    let numbers = |text: &str, separator| {
        let parts: Option<Vec<i64>> = text.split(separator).map(|p| p.parse().ok()).collect();
        parts.filter(|parts| parts.len() == 3)
    };
    let (date, clock) = (numbers(date, '-')?, numbers(clock, ':')?);
    if fraction.len() != 9 {
        return None;
    }
    let fraction: i64 = fraction.parse().ok()?;
    let seconds = days_from_civil(date[0], date[1], date[2]) * 86_400
        + clock[0] * 3600
        + clock[1] * 60
        + clock[2];
    Some(i128::from(seconds) * NS_PER_SECOND + i128::from(fraction))
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        assert_eq!(parse_time("1970-01-01T00:00:00.000000001+00:00"), Some(1));
        let expected = 1_761_118_306_905_224_659;
        assert_eq!(parse_time("2025-10-22T07:31:46.905224659+00:00"), Some(expected));
        assert_eq!(parse_time("2025-10-22T07:31:46+00:00"), None);
        assert_eq!(parse_time("2025-10-22T07:31:46.905224659Z"), None);
    }
}
