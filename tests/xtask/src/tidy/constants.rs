//! One number under one name stands in one place.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{is_product, product_code_of};
use super::{assert_list, sources};

/// Constants of crates that have no crate in common in which one could stand for both. The list may
/// only shrink.
const TWICE: &[&str] = &[
    "CISCO_HDLC = 104: decoders/src/packet/link_type.rs engine/packet-files/src/frame.rs",
    "ETHERNET = 1: decoders/src/packet/link_type.rs engine/packet-files/src/frame.rs",
    "RAW = 101: decoders/src/packet/link_type.rs engine/packet-files/src/frame.rs",
    "SECOND_NS = 1000000000: decoders/src/netflow/clock.rs engine/records/src/json/time.rs",
];

/// The name of the constant that a line of code declares at the left of its file, or of a module
/// in it.
fn declared(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => line,
    };
    let (name, _) = line.strip_prefix("const ")?.split_once(':')?;
    let is_part = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    Some(name).filter(|name| *name != "_" && name.bytes().all(is_part))
}

/// The constants of a file with their values. Constants that other constants make are left out.
fn constants(text: &str) -> Vec<(String, String)> {
    let code = product_code_of(text);
    let (mut found, mut start, mut is_module) = (Vec::new(), 0, false);
    for line in code.split_inclusive('\n') {
        if !line.starts_with([' ', '}', '\n']) {
            is_module = opens_module(line);
        }
        // Those of a type have its name, too.
        let item = if is_module { line.strip_prefix("    ").unwrap_or(line) } else { line };
        if let Some(name) = declared(item)
            && let Some(value) = value_at(&code, start)
            && !is_derived(&code[value.clone()])
        {
            // Code has no texts.
            found.push((name.to_owned(), calculated(&text[value])));
        }
        start += line.len();
    }
    found
}

fn opens_module(line: &str) -> bool {
    line.trim_end().ends_with('{') && line.split(' ').any(|word| word == "mod")
}

/// Where the value of the declaration is that begins here.
fn value_at(code: &str, start: usize) -> Option<std::ops::Range<usize>> {
    let first = start + code[start..].find(" =")? + " =".len();
    Some(first..first + code[first..].find(';')?)
}

/// Whether a value names another constant than those of the integers.
fn is_derived(value: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && !word.contains(|c: char| c.is_ascii_lowercase())
    };
    let mut words = value.split(|c| !is_part(c));
    words.any(|word| is_name(word) && !["BITS", "MAX", "MIN"].contains(&word))
}

/// A value without regard to how it is written.
fn calculated(value: &str) -> String {
    let words: Vec<&str> = value.split_whitespace().collect();
    let number = match words[..] {
        [one] => number(one),
        [left, "<<", right] => number(left)
            .zip(number(right))
            .and_then(|(left, right)| left.checked_shl(u32::try_from(right).ok()?)),
        [left, "*", right] => {
            number(left).zip(number(right)).and_then(|(left, right)| left.checked_mul(right))
        }
        _ => None,
    };
    number.map_or_else(|| words.join(" "), |number| number.to_string())
}

/// A number in source code.
fn number(word: &str) -> Option<u128> {
    let digits = word.replace('_', "");
    let digits = digits.split(['i', 'u']).next()?;
    let radixes = [("0x", 16), ("0o", 8), ("0b", 2)];
    let other = radixes.iter().find(|(prefix, _)| digits.starts_with(prefix));
    let (prefix, radix) = other.copied().unwrap_or(("", 10));
    u128::from_str_radix(&digits[prefix.len()..], radix).ok()
}

#[test]
fn a_number_has_one_place_under_one_name() {
    let mut places: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut count = 0;
    let sources = sources();
    for (path, text) in sources.iter().filter(|(path, _)| is_product(path)) {
        for constant in constants(text) {
            count += 1;
            places.entry(constant).or_default().insert(path.clone());
        }
    }
    assert!(count > 1500, "few constants were found: {count}");
    let twice = places.iter().filter(|(_, paths)| paths.len() > 1);
    let twice: Vec<_> = twice
        .map(|((name, value), paths)| {
            let paths: Vec<_> = paths.iter().map(String::as_str).collect();
            format!("{name} = {value}: {}", paths.join(" "))
        })
        .collect();
    assert_list("constants that several files have", &twice, TWICE);
}

#[test]
fn constants_are_found_with_their_values() {
    let text = "\
const A: u64 = 1_000;
pub(crate) const B: [u8; 2] = *b\"ab\";
pub const C: usize =
    64 << 10;
const D: usize = A * 2;
    const E: usize = 1;
pub mod numbers {
    /// The first.
    pub(super) const F: u8 = 0x3;
        const G: u8 = 1;
}
impl Type {
    const H: u8 = 1;
}
const _: () = assert!(A > 1);
#[cfg(test)]
mod tests {
const I: u8 = 1;
}
";
    let found = constants(text);
    let found: Vec<_> = found.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert_eq!(found, [("A", "1000"), ("B", "*b\"ab\""), ("C", "65536"), ("F", "3")]);
    for (written, value) in [
        ("0x10_u32", "16"),
        ("4 * 1024", "4096"),
        ("0o17", "15"),
        ("u32::MAX", "u32::MAX"),
        ("Duration::from_secs(5)", "Duration::from_secs(5)"),
    ] {
        assert_eq!(calculated(written), value);
    }
    assert!(!is_derived("u32::MAX") && is_derived("2 * PAGES_MAX"));
}
