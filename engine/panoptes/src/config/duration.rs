//! Durations: `10ms`, `1.5s`.
//!
//! Text that other programs take is refused with what to write here: `10min` with `10m`.

use std::path::Path;
use std::time::Duration;

use super::value::{Setting, whole_number};

impl Setting for Duration {
    const FORM: &'static str = "duration";

    fn show(&self) -> String {
        show_duration(*self)
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        let (number, unit) = split_fraction(text);
        if number.bytes().any(|byte| byte.is_ascii_digit()) && unit.is_empty() {
            if number.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
                return Err(format!("is too short; {EXAMPLE}"));
            }
            return Err(format!("has no unit; write {number}ms, {number}s or {number}m"));
        }
        match UNITS.iter().find(|(name, _)| *name == unit).filter(|_| is_number(number)) {
            Some((_, nanoseconds)) => product(number, *nanoseconds).map(Self::from_nanos),
            None => Err(mistake(text)),
        }
    }
}

/// A number times a unit in nanoseconds. The error completes "`text` …".
fn product(number: &str, unit: u64) -> Result<u64, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = whole_number(whole)?.checked_mul(unit);
    let part = part_of(fraction, unit)
        .ok_or_else(|| format!("is no whole number of nanoseconds; {EXAMPLE}"))?;
    let total = whole.and_then(|whole| whole.checked_add(part));
    total.ok_or_else(|| "is too long".to_owned())
}

/// Whether text is digits, or digits on both sides of one point.
fn is_number(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    is_digits(whole) && is_digits(fraction)
}

/// The mistake in text that is no duration, with what to write instead.
fn mistake(text: &str) -> String {
    match meant(text) {
        Some(right) => {
            format!("is not a duration; write {right}, with one of the units us, ms, s, m, h and d")
        }
        None => format!("is not a duration; {EXAMPLE}"),
    }
}

/// The duration that the text of other programs stands for: `10min`, `5S`, `1m30s`, `.5s`, `1,5s`.
fn meant(text: &str) -> Option<String> {
    let text = text.replace(',', ".").to_lowercase();
    let (mut rest, mut total) = (text.as_str(), 0_u64);
    while !rest.is_empty() {
        let (number, behind) = split_fraction(rest);
        let end = behind.find(|one: char| one.is_ascii_digit() || one == '.');
        let (word, behind) = behind.split_at(end.unwrap_or(behind.len()));
        let (_, unit) = WORDS.iter().find(|(words, _)| words.contains(&word.trim_end()))?;
        // Zeros make a number of `.5` and of `5.`.
        let number = match number.split_once('.') {
            Some((whole, fraction)) => format!("0{whole}.{fraction}0"),
            None => number.to_owned(),
        };
        let part = is_number(&number).then(|| product(&number, *unit).ok()).flatten()?;
        total = total.checked_add(part)?;
        rest = behind;
    }
    (total > 0).then(|| show_duration(Duration::from_nanos(total)))
}

/// The digits after a point, times `unit`; `None` if these are no digits, or that is no whole
/// number.
fn part_of(fraction: &str, unit: u64) -> Option<u64> {
    let digits = u32::try_from(fraction.len()).ok()?;
    let number = u128::from(whole_number(fraction).ok()?);
    let (total, places) = (number.checked_mul(u128::from(unit))?, 10_u128.checked_pow(digits)?);
    total.is_multiple_of(places).then(|| u64::try_from(total / places).ok())?
}

/// Formats a duration as it is written in a configuration: `10ms`.
pub fn show_duration(duration: Duration) -> String {
    let total = duration.as_nanos();
    let (unit, nanoseconds) = UNITS
        .iter()
        .rev()
        .find(|(_, nanoseconds)| total != 0 && total.is_multiple_of(u128::from(*nanoseconds)))
        .unwrap_or(&("ms", 1_000_000));
    format!("{}{unit}", total / u128::from(*nanoseconds))
}

/// Splits text into the leading number, which may have a point, and the rest.
fn split_fraction(text: &str) -> (&str, &str) {
    let is_part = |character: char| character.is_ascii_digit() || character == '.';
    let end = text.find(|character| !is_part(character)).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

const EXAMPLE: &str =
    "write a number and one of the units us, ms, s, m, h and d, such as 10ms, 1.5s or 1m";

const UNITS: &[(&str, u64)] = &[
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Units in nanoseconds as systemd.time(7) and people write them, in lower case.
const WORDS: &[(&[&str], u64)] = &[
    (&["us", "µs", "μs", "usec", "microsecond", "microseconds"], 1_000),
    (&["ms", "msec", "millisecond", "milliseconds"], 1_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000_000_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000_000_000),
    (&["d", "day", "days"], 86_400_000_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Duration, String> {
        Duration::read(text, Path::new("/base"))
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(read("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(read("2 s"), Ok(Duration::from_secs(2)));
        assert_eq!(read("1m"), Ok(Duration::from_mins(1)));
        assert_eq!(read("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(read("0.25ms"), Ok(Duration::from_micros(250)));
        assert_eq!(read("0.1 d"), Ok(Duration::from_mins(144)));
        assert_eq!(read("10").unwrap_err(), "has no unit; write 10ms, 10s or 10m");
        assert_eq!(read("1.5").unwrap_err(), "has no unit; write 1.5ms, 1.5s or 1.5m");
        assert_eq!(read("0").unwrap_err(), format!("is too short; {EXAMPLE}"));
        let fractions =
            [".5s", "1.s", "1.5.5s", "0.1us1", "0.0000001us", "1.99999999999999999999s"];
        let wrong = ["", ".", "s", "ms", "-1s", "5xs", "1S", "99999999999999999999s"];
        for wrong in wrong.into_iter().chain(fractions).chain(["9999999999d"]) {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_duration_of_another_program_is_answered_with_the_right_one() {
        let pairs = [
            ("10min", "10m"),
            ("5S", "5s"),
            ("1m30s", "90s"),
            ("1h 30min", "90m"),
            (".5s", "500ms"),
            ("1.s", "1s"),
            ("1,5s", "1500ms"),
            ("2 Minutes", "2m"),
            ("20µs", "20us"),
        ];
        for (wrong, right) in pairs {
            let expected = format!(
                "is not a duration; write {right}, with one of the units us, ms, s, m, h and d"
            );
            assert_eq!(read(wrong).unwrap_err(), expected, "{wrong}");
        }
    }

    #[test]
    fn the_mistake_in_a_duration_names_the_units() {
        for wrong in ["", ".", "s", "1.5.5s", "5xs", "-1s", "0min", "1e3s", "1m99999999999d", "m1"]
        {
            assert_eq!(
                read(wrong).unwrap_err(),
                format!("is not a duration; {EXAMPLE}"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for text in ["10ms", "2s", "1m", "1500ms", "3h", "2d", "7us"] {
            assert_eq!(show_duration(read(text).unwrap()), text);
        }
        assert_eq!(show_duration(Duration::ZERO), "0ms");
    }
}
