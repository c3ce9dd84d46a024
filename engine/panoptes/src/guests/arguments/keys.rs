//! The keys and values of one option of QEMU, in either of its two syntaxes.

use serde_json::{Map, Value};

/// The keys of one option.
#[derive(Debug)]
pub(super) enum QemuOptionKeys {
    List(Vec<(String, String)>),
    Json(Map<String, Value>),
}

impl QemuOptionKeys {
    /// `implied` is the key of a first value that has no key.
    pub(super) fn read(text: &str, implied: &str) -> Self {
        if text.starts_with('{')
            && let Ok(Value::Object(map)) = serde_json::from_str(text)
        {
            return Self::Json(map);
        }
        let mut list = Vec::new();
        for (index, part) in split_at_commas(text).into_iter().enumerate() {
            list.push(match part.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None if index == 0 => (implied.to_owned(), part),
                None => (part, "on".to_owned()),
            });
        }
        Self::List(list)
    }

    /// A value as text; the last one if the key is given twice.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self {
            Self::List(list) => {
                list.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.clone())
            }
            Self::Json(map) => match map.get(key)? {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(is_on) => Some(if *is_on { "on" } else { "off" }.to_owned()),
                _ => None,
            },
        }
    }

    /// A size in bytes; `unit` applies to a number without a unit.
    pub(super) fn size(&self, key: &str, unit: u64) -> Option<u64> {
        size(&self.text(key)?, unit)
    }
}

/// Splits at single commas; two commas are one comma of the value.
pub(super) fn split_at_commas(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character != ',' {
            parts.last_mut().expect("there is one from the start").push(character);
        } else if rest.next_if_eq(&',').is_some() {
            parts.last_mut().expect("there is one from the start").push(',');
        } else {
            parts.push(String::new());
        }
    }
    parts
}

/// Parses `512M`, `1.5G`, `0x40000000`, or a number of `unit`.
pub(super) fn size(text: &str, unit: u64) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok();
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit = match suffix {
        "" => unit,
        "b" | "B" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        _ => return None,
    };
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(unit),
        Some((whole, part)) if part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit()) => {
            let digits = u32::try_from(part.len()).ok()?;
            let part: u64 = if part.is_empty() { 0 } else { part.parse().ok()? };
            let part = u128::from(part) * u128::from(unit) / 10_u128.pow(digits);
            let part = u64::try_from(part).ok()?;
            whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(part)
        }
        Some(_) => None,
    }
}
