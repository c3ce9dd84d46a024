//! Digits of numbers, eight at a time: a `u64` holds a text of eight characters, the first one in
//! its lowest byte, and one multiplication works on all of them.

/// The lowest number that has more than eight digits.
pub(crate) const EIGHT_DIGITS: u64 = 100_000_000;

const ZEROS: u64 = u64::from_ne_bytes(*b"00000000");

/// A number below [`EIGHT_DIGITS`] in decimal, with leading zeros.
#[inline]
pub(crate) const fn eight_digits(value: u32) -> [u8; 8] {
    (eight_values(value) + ZEROS).to_le_bytes()
}

/// Room for the digits of a number, in groups of eight.
pub(super) const DIGITS_ROOM: usize = 24;

/// Writes a number in decimal and returns how many digits it has. What follows them is undefined.
#[inline]
pub(super) fn write_digits(room: &mut [u8; DIGITS_ROOM], value: u64) -> usize {
    if value < EIGHT_DIGITS { write_few(room, value as u32) } else { write_many(room, value) }
}

/// The same for at most eight digits. Many numbers are small: users, descriptors, flags.
#[inline]
fn write_few(room: &mut [u8; DIGITS_ROOM], value: u32) -> usize {
    if value < 100 {
        let (pair, skipped) = (PAIRS[value as usize], usize::from(value < 10));
        room[..2].copy_from_slice(&[pair[skipped], pair[1]]);
        return 2 - skipped;
    }
    let (digits, count) = up_to_eight_digits(value);
    room[..8].copy_from_slice(&digits);
    count
}

/// The same for more than eight digits.
fn write_many(room: &mut [u8; DIGITS_ROOM], value: u64) -> usize {
    let rest = value / EIGHT_DIGITS;
    let count =
        if rest < EIGHT_DIGITS { write_few(room, rest as u32) } else { write_most(room, rest) };
    room[count..count + 8].copy_from_slice(&eight_digits((value % EIGHT_DIGITS) as u32));
    count + 8
}

/// The same for all but the last eight digits of the longest numbers.
#[cold]
fn write_most(room: &mut [u8; DIGITS_ROOM], value: u64) -> usize {
    let count = write_few(room, (value / EIGHT_DIGITS) as u32);
    room[count..count + 8].copy_from_slice(&eight_digits((value % EIGHT_DIGITS) as u32));
    count + 8
}

/// The same as [`eight_digits`] without leading zeros: the digits are in front. Also how many.
#[inline]
const fn up_to_eight_digits(value: u32) -> ([u8; 8], usize) {
    let values = eight_values(value);
    // The last digit counts even if it is a zero.
    let zeros = (values | 1 << 56).trailing_zeros() / 8;
    let digits = (values + ZEROS) >> (8 * zeros);
    (digits.to_le_bytes(), 8 - zeros as usize)
}

/// The values of eight digits, one in each byte. A number is split into halves of four digits, then
/// all halves at once into pairs and single digits. The multiplications divide by 100 and by 10,
/// rounded down, exactly for all numbers below 10,000 and below 100.
#[inline]
const fn eight_values(value: u32) -> u64 {
    let value = value as u64;
    let halves = (value / 10_000) | ((value % 10_000) << 32);
    let hundreds = ((halves * 5243) >> 19) & 0x0000_007f_0000_007f;
    let pairs = hundreds | (halves - hundreds * 100) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (pairs - tens * 10) << 8
}

/// `00` to `99`.
pub(super) const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut value = 0;
    while value < pairs.len() {
        pairs[value] = [b'0' + value as u8 / 10, b'0' + value as u8 % 10];
        value += 1;
    }
    pairs
};

/// Each byte in lower-case hex.
pub(crate) const HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut value = 0;
    while value < pairs.len() {
        pairs[value] = [DIGITS[value >> 4], DIGITS[value & 15]];
        value += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(value: u32) {
        assert_eq!(eight_digits(value), format!("{value:08}").as_bytes());
        check_digits(value.into());
    }

    fn check_digits(value: u64) {
        let mut room = [0; DIGITS_ROOM];
        let count = write_digits(&mut room, value);
        assert_eq!(&room[..count], value.to_string().as_bytes());
    }

    #[test]
    fn numbers_around_each_power_of_ten_are_written_right() {
        for power in (0..=8).map(|exponent| 10_u32.pow(exponent)) {
            for value in power - 1..=power + 1 {
                check(value.min(EIGHT_DIGITS as u32 - 1));
            }
        }
    }

    #[test]
    fn long_numbers_around_each_power_of_ten_are_written_right() {
        check_digits(u64::MAX);
        for power in (0..=19).map(|exponent| 10_u64.pow(exponent)) {
            for value in [power - 1, power, power + 1, power.saturating_mul(9)] {
                check_digits(value);
            }
        }
    }

    #[test]
    fn every_number_of_four_digits_is_written_right_in_both_halves() {
        for value in 0..10_000 {
            check(value);
            check(value * 10_000 + 9_999 - value);
        }
    }

    #[test]
    fn pairs_are_written_right() {
        for (value, pair) in PAIRS.iter().enumerate() {
            assert_eq!(pair, format!("{value:02}").as_bytes());
            check_digits(value as u64);
        }
        for (byte, pair) in HEX.iter().enumerate() {
            assert_eq!(pair, format!("{byte:02x}").as_bytes());
        }
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_in_the_model(
            value in 0..EIGHT_DIGITS as u32,
            long: u64,
        ) {
            check(value);
            check_digits(long >> (value % 64));
        }
    }
}
