//! Times as in the records: `2025-10-22T07:31:46.905224659+00:00`, always UTC, always nine digits.

use std::ops::Range;

use super::digits::{EIGHT_DIGITS, PAIRS, eight_digits};
use super::{Full, JsonWriter};

/// A point in time: seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

/// Length of the text of every time, in bytes.
pub const TIMESTAMP_LENGTH: usize = 35;

/// Nanoseconds of a second.
pub const SECOND_NS: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

impl Timestamp {
    /// From nanoseconds since 1970.
    pub const fn from_ns(ns: i64) -> Self {
        Self { seconds: ns.div_euclid(SECOND_NS), nanoseconds: ns.rem_euclid(SECOND_NS) as u32 }
    }

    /// From seconds and nanoseconds as a kernel keeps them. `None` when they are no valid time: a
    /// nanosecond part of a second or more, or a year without four digits. A field without a value
    /// is left out.
    pub const fn new(seconds: i64, nanoseconds: u32) -> Option<Self> {
        let known = FIRST_SECOND <= seconds && seconds <= LAST_SECOND;
        if known && nanoseconds < SECOND_NS as u32 {
            Some(Self { seconds, nanoseconds })
        } else {
            None
        }
    }

    /// The text, without quotes.
    pub fn text(self) -> [u8; TIMESTAMP_LENGTH] {
        let mut text = [0; TIMESTAMP_LENGTH];
        self.write_to(&mut text, &mut Day::default());
        text
    }

    fn write_quoted(self, text: &mut [u8; TIMESTAMP_LENGTH + 2], day: &mut Day) {
        let [first, text @ .., last] = text;
        (*first, *last) = (b'"', b'"');
        self.write_to(text, day);
    }

    /// Writes the text, without quotes.
    #[inline]
    fn write_to(self, text: &mut [u8; TIMESTAMP_LENGTH], day: &mut Day) {
        let second = self.seconds.rem_euclid(SECONDS_PER_DAY) as usize;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let (first, others) = (self.nanoseconds / BILLIONTHS, self.nanoseconds % BILLIONTHS);
        *text = *b"0000-00-00T00:00:00.000000000+00:00";
        text[..DATE_LENGTH].copy_from_slice(day.text_of(self.seconds.div_euclid(SECONDS_PER_DAY)));
        text[11..13].copy_from_slice(&PAIRS[hour]);
        text[14..16].copy_from_slice(&PAIRS[minute]);
        text[17..19].copy_from_slice(&PAIRS[second]);
        text[20] = b'0' + first as u8;
        text[21..29].copy_from_slice(&eight_digits(others));
    }
}

/// The day whose text was needed last: most times of a scan are of one day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Day {
    /// Counted from 1970-01-01.
    number: i64,
    text: [u8; DATE_LENGTH],
}

/// Length of `2025-10-22`.
const DATE_LENGTH: usize = 10;

impl Default for Day {
    fn default() -> Self {
        Self { number: 0, text: *b"1970-01-01" }
    }
}

impl Day {
    #[inline]
    fn text_of(&mut self, number: i64) -> &[u8; DATE_LENGTH] {
        if self.number != number {
            *self = Self::new(number);
        }
        &self.text
    }

    fn new(number: i64) -> Self {
        let (year, month, day) = civil_date(number);
        let mut text = *b"0000-00-00";
        text[0..2].copy_from_slice(&PAIRS[(year / 100) as usize]);
        text[2..4].copy_from_slice(&PAIRS[(year % 100) as usize]);
        text[5..7].copy_from_slice(&PAIRS[month as usize]);
        text[8..10].copy_from_slice(&PAIRS[day as usize]);
        Self { number, text }
    }
}

/// Nanoseconds that have eight digits, and one more: a tenth of a second.
const BILLIONTHS: u32 = EIGHT_DIGITS as u32;

impl Timestamp {
    /// A time as [`Timestamp::text`] writes it.
    pub fn parse(text: &[u8; TIMESTAMP_LENGTH]) -> Option<Self> {
        let number = |range: Range<usize>| {
            let digits = text.get(range)?;
            let is_plain = digits.iter().all(u8::is_ascii_digit);
            is_plain.then(|| {
                digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
            })
        };
        let days = days_of(number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
        let time = Self::new(seconds, u32::try_from(number(20..29)?).ok()?)?;
        (time.text() == *text).then_some(time)
    }

    /// Whether it can be the time of anything. A clock that was never set counts from 1970, and
    /// what has no time has a 0: consumers take no time of that day for one.
    #[inline]
    pub(crate) fn is_set(self) -> bool {
        !(0..SECONDS_PER_DAY).contains(&self.seconds)
    }

    /// Seconds since 1970, and nanoseconds.
    pub const fn parts(self) -> (i64, u32) {
        (self.seconds, self.nanoseconds)
    }
}

/// The day of a date, counted from 1970-01-01: the reverse of [`civil_date`].
const fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let (year, march_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// 0000-01-01T00:00:00 and 9999-12-31T23:59:59.
const FIRST_SECOND: i64 = -62_167_219_200;
const LAST_SECOND: i64 = 253_402_300_799;

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts from 0000-03-01, so that the leap day is the last of its year (H. Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
const fn civil_date(days: i64) -> (u64, u64, u64) {
    let days = (days + 719_468 + 146_097) as u64; // an era more: year 0 begins before its March 1
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + (month <= 2) as u64 - 400;
    (year, month, day)
}

impl JsonWriter<'_> {
    #[expect(clippy::inline_always, reason = "the length of `before` is known only to the callers")]
    #[inline(always)]
    pub fn timestamp(&mut self, before: &str, time: Timestamp) -> Result<(), Full> {
        let mut day = self.day;
        time.write_quoted(self.after(before)?, &mut day);
        self.day = day;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(time: Timestamp) -> String {
        String::from_utf8(time.text().to_vec()).unwrap()
    }

    #[test]
    fn known_times_are_written_right() {
        let check = |ns, expected: &str| assert_eq!(text(Timestamp::from_ns(ns)), expected);
        check(1_761_118_306_905_224_659, "2025-10-22T07:31:46.905224659+00:00");
        check(0, "1970-01-01T00:00:00.000000000+00:00");
        check(-1, "1969-12-31T23:59:59.999999999+00:00");
        check(951_782_400_000_000_001, "2000-02-29T00:00:00.000000001+00:00");
        check(i64::MAX, "2262-04-11T23:47:16.854775807+00:00");
        check(i64::MIN, "1677-09-21T00:12:43.145224192+00:00");
    }

    #[test]
    fn what_has_no_year_of_four_digits_is_no_time() {
        let check = |seconds, expected: Option<&str>| {
            assert_eq!(Timestamp::new(seconds, 0).map(text).as_deref(), expected);
        };
        check(FIRST_SECOND, Some("0000-01-01T00:00:00.000000000+00:00"));
        check(FIRST_SECOND - 1, None);
        check(LAST_SECOND, Some("9999-12-31T23:59:59.000000000+00:00"));
        check(LAST_SECOND + 1, None);
        check(i64::MIN, None);
        assert_eq!(Timestamp::new(0, 1_000_000_000), None);
    }

    #[test]
    fn times_are_read_as_they_were_written() {
        for ns in [1_761_118_306_905_224_659, 0, -1, 951_782_400_000_000_001, i64::MAX, i64::MIN] {
            let time = Timestamp::from_ns(ns);
            assert_eq!(Timestamp::parse(&time.text()), Some(time));
        }
        for second in [FIRST_SECOND, LAST_SECOND] {
            let time = Timestamp::new(second, 999_999_999).unwrap();
            assert_eq!(Timestamp::parse(&time.text()), Some(time));
        }
        for wrong in [
            b"2025-02-30T07:31:46.905224659+00:00",
            b"2025-13-01T07:31:46.905224659+00:00",
            b"2025-10-22T24:31:46.905224659+00:00",
            b"2025-10-22 07:31:46.905224659+00:00",
            b"2025-10-22T07:31:46.905224659+01:00",
            b"+025-10-22T07:31:46.905224659+00:00",
        ] {
            assert_eq!(Timestamp::parse(wrong), None);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil_date(-719_528);
        assert_eq!(last, (0, 1, 1));
        for day in -719_527..=2_932_896 {
            let (year, month, date) = civil_date(day);
            let next_day = (year, month) == (last.0, last.1) && date == last.2 + 1;
            let next_month =
                date == 1 && (year * 12 + month == last.0 * 12 + last.1 + 1) && last.2 >= 28;
            assert!(next_day || next_month, "{last:?} then {year}-{month}-{date}");
            last = (year, month, date);
        }
        assert_eq!(last, (9999, 12, 31));
    }
}
