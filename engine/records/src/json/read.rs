//! Reads records that Panoptes wrote: a pull parser without allocation.
//!
//! It accepts the JSON that [`JsonWriter`](super::JsonWriter) writes, and nothing else: no blanks,
//! no exponents, no signs of fractions, no null, no escapes in keys, no deeper nesting than a
//! record has.
//! Anything else gives [`MalformedRecord`], never a panic. [`JsonReader`] is a position, so a copy
//! of it goes back to where it was made.

use super::text::clean_prefix;

/// The text is no record that Panoptes wrote.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no record as Panoptes writes it")]
pub struct MalformedRecord;

/// How deep objects and lists are in each other in the deepest record.
pub const JSON_DEPTH_MAX: u32 = 11;
/// The most digits behind a point: times have thousandths.
const FRACTION_DIGITS: usize = 3;

/// A part of a record, in the order of its text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Token<'r> {
    /// The beginning of an object. Then come its keys, each with a value.
    Object,
    Key(&'r str),
    ObjectEnd,
    /// The beginning of a list.
    List,
    ListEnd,
    Text(EscapedString<'r>),
    Number(u64),
    /// Below zero: sizes of packets of the other end in records of flows.
    Negative(i64),
    /// A number with a fraction, as it is written: times in records of flows.
    Decimal(&'r str),
    Boolean(bool),
    /// The end of the record.
    End,
}

/// The inside of a string as it is written, escapes included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EscapedString<'r>(&'r str);

/// A position in a record.
#[derive(Clone, Copy, Debug)]
pub struct JsonReader<'r> {
    text: &'r str,
    at: usize,
    /// Which of the open objects and lists are objects: one bit for each, the innermost lowest.
    objects: u16,
    depth: u32,
    expected: ExpectedToken,
}

const _: () = assert!(JSON_DEPTH_MAX <= u16::BITS);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ExpectedToken {
    Value,
    /// A first key or element, or the end of an object or list without any.
    FirstOrEnd,
    /// A comma and more, or the end of what is open; outside of all, the end of the record.
    MoreOrEnd,
}

impl<'r> JsonReader<'r> {
    /// Starts at the beginning of a record, which has no line feed.
    pub fn new(record: &'r [u8]) -> Result<Self, MalformedRecord> {
        let text = std::str::from_utf8(record).or(Err(MalformedRecord))?;
        Ok(Self { text, at: 0, objects: 0, depth: 0, expected: ExpectedToken::Value })
    }

    /// The next part. After the end, the end again.
    pub fn read(&mut self) -> Result<Token<'r>, MalformedRecord> {
        if self.expected == ExpectedToken::Value {
            return self.any_value();
        }
        if self.depth == 0 {
            let is_end = self.at == self.text.len();
            return if is_end { Ok(Token::End) } else { Err(MalformedRecord) };
        }
        if let Some(token) = self.end() {
            return Ok(token);
        }
        if self.expected == ExpectedToken::MoreOrEnd {
            self.require(b',')?;
        }
        self.entry()
    }

    /// Advances behind the end of the innermost open object or list.
    pub fn skip_rest(&mut self) -> Result<(), MalformedRecord> {
        let depth = self.depth;
        while self.depth >= depth && self.read()? != Token::End {}
        Ok(())
    }

    /// The text of the value that comes next.
    pub fn value(&mut self) -> Result<&'r str, MalformedRecord> {
        // The comma before an element is no part of it.
        let comma = usize::from(self.expected == ExpectedToken::MoreOrEnd);
        let start = self.at + comma;
        match self.read()? {
            Token::Object | Token::List => self.skip_rest()?,
            Token::Text(_)
            | Token::Number(_)
            | Token::Negative(_)
            | Token::Decimal(_)
            | Token::Boolean(_) => {}
            Token::Key(_) | Token::ObjectEnd | Token::ListEnd | Token::End => {
                return Err(MalformedRecord);
            }
        }
        Ok(&self.text[start..self.at])
    }

    const fn is_in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn require(&mut self, byte: u8) -> Result<(), MalformedRecord> {
        if self.byte() != Some(byte) {
            return Err(MalformedRecord);
        }
        self.at += 1;
        Ok(())
    }

    /// The end of the innermost open object or list, if it is here.
    fn end(&mut self) -> Option<Token<'r>> {
        let (byte, token) =
            if self.is_in_object() { (b'}', Token::ObjectEnd) } else { (b']', Token::ListEnd) };
        self.require(byte).ok()?;
        self.depth -= 1;
        self.objects >>= 1;
        self.expected = ExpectedToken::MoreOrEnd;
        Some(token)
    }

    /// A key, or an element of a list.
    fn entry(&mut self) -> Result<Token<'r>, MalformedRecord> {
        if !self.is_in_object() {
            return self.any_value();
        }
        self.require(b'"')?;
        let EscapedString(key) = self.string()?;
        if key.contains('\\') {
            return Err(MalformedRecord);
        }
        self.require(b':')?;
        self.expected = ExpectedToken::Value;
        Ok(Token::Key(key))
    }

    fn any_value(&mut self) -> Result<Token<'r>, MalformedRecord> {
        let first = self.byte().ok_or(MalformedRecord)?;
        self.expected = ExpectedToken::MoreOrEnd;
        match first {
            b'{' | b'[' => self.open(first == b'{'),
            b'"' => {
                self.at += 1;
                self.string().map(Token::Text)
            }
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true").map(|()| Token::Boolean(true)),
            b'f' => self.word("false").map(|()| Token::Boolean(false)),
            _ => Err(MalformedRecord),
        }
    }

    fn open(&mut self, is_object: bool) -> Result<Token<'r>, MalformedRecord> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(MalformedRecord);
        }
        self.at += 1;
        self.depth += 1;
        self.objects = self.objects << 1 | u16::from(is_object);
        self.expected = ExpectedToken::FirstOrEnd;
        Ok(if is_object { Token::Object } else { Token::List })
    }

    fn word(&mut self, word: &str) -> Result<(), MalformedRecord> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(MalformedRecord);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<Token<'r>, MalformedRecord> {
        let start = self.at;
        let is_negative = self.byte() == Some(b'-');
        self.at += usize::from(is_negative);
        let rest = &self.text.as_bytes()[self.at..];
        let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let count = digits(rest);
        let is_zero = rest.first() == Some(&b'0');
        if count == 0 || is_zero && (count > 1 || is_negative) {
            return Err(MalformedRecord);
        }
        self.at += count;
        let whole = &self.text[start..self.at];
        if is_negative {
            return whole.parse().map(Token::Negative).or(Err(MalformedRecord));
        }
        let number = whole.parse().or(Err(MalformedRecord))?;
        if rest.get(count) != Some(&b'.') {
            return Ok(Token::Number(number));
        }
        let fraction = digits(&rest[count + 1..]);
        if !(1..=FRACTION_DIGITS).contains(&fraction) {
            return Err(MalformedRecord);
        }
        self.at += 1 + fraction;
        Ok(Token::Decimal(&self.text[start..self.at]))
    }

    /// The rest of a string, behind its first quote.
    fn string(&mut self) -> Result<EscapedString<'r>, MalformedRecord> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        loop {
            self.at += clean_prefix(&bytes[self.at..]);
            match bytes.get(self.at).ok_or(MalformedRecord)? {
                b'"' => break,
                b'\\' => {
                    self.at += Escape::at(&self.text[self.at..]).ok_or(MalformedRecord)?.length;
                }
                0..0x20 => return Err(MalformedRecord),
                // A byte of a character beyond ASCII, or DEL.
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok(EscapedString(&self.text[start..self.at - 1]))
    }
}

/// One escape, as `JsonWriter` writes them.
#[derive(Clone, Copy, Debug)]
struct Escape {
    length: usize,
    character: char,
}

impl Escape {
    /// The escape at the start of `text`, which begins with a backslash.
    fn at(text: &str) -> Option<Self> {
        let character = match text.as_bytes().get(1)? {
            byte @ (b'"' | b'\\') => char::from(*byte),
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let digits = text.get(2..6)?;
                // `from_str_radix` takes a sign, too.
                let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let code = u32::from_str_radix(digits, 16).ok().filter(|_| are_digits)?;
                // Half of a pair of surrogates is no character; the writer escapes none.
                return Some(Self { length: 6, character: char::from_u32(code)? });
            }
            _ => return None,
        };
        Some(Self { length: 2, character })
    }
}

impl<'r> EscapedString<'r> {
    /// The bytes as written.
    pub const fn as_written(self) -> &'r str {
        self.0
    }

    /// The characters of the value.
    pub fn characters(self) -> impl Iterator<Item = char> + use<'r> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (character, length) = first(rest)?;
            rest = &rest[length..];
            Some(character)
        })
    }

    /// The longest beginning that has at most `limit` bytes as written and ends between two
    /// characters.
    pub fn cut(self, limit: usize) -> &'r str {
        if self.0.len() <= limit {
            return self.0;
        }
        let mut end = 0;
        while let Some((_, length)) = first(&self.0[end..]) {
            if end + length > limit {
                break;
            }
            end += length;
        }
        &self.0[..end]
    }
}

/// The first character of an escaped text, and its length as written.
fn first(escaped: &str) -> Option<(char, usize)> {
    let character = escaped.chars().next()?;
    if character == '\\' {
        Escape::at(escaped).map(|escape| (escape.character, escape.length))
    } else {
        Some((character, character.len_utf8()))
    }
}

#[cfg(test)]
#[path = "../../tests/common/value.rs"]
mod value;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::value::read;
    use super::*;
    use crate::record::DetailsKind;
    use crate::schema_type::{SchemaObject, SchemaType};

    #[test]
    fn written_records_are_read() {
        let golden = include_str!("../../tests/golden/records.jsonl");
        let foreign = include_str!("../../tests/golden/doca_argus.jsonl");
        let lines = include_str!("../../tests/golden/scan.jsonl");
        for line in golden.lines().chain(foreign.lines()).chain(lines.lines()) {
            assert_eq!(read(line.as_bytes()), Ok(serde_json::from_str(line).unwrap()));
        }
    }

    #[test]
    fn what_panoptes_does_not_write_is_refused() {
        for text in [
            "",
            " {}",
            "{} ",
            "{ }",
            "{}{}",
            "{",
            "[",
            "[1",
            "[1,]",
            "[,1]",
            "[1 ,2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,\"a\":1}",
            "{\"a\":1]",
            "[1}",
            "{1:2}",
            "{\"\\n\":1}",
            "null",
            "-1.5",
            "+1",
            "1e3",
            "01",
            "18446744073709551616",
            "tru",
            "True",
            "nan",
            "\"",
            "\"\\",
            "\"\\\"",
            "\"\\/\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u+123\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\\ud83d\\ude00\"",
            "\"\n\"",
            "\"\0\"",
            "'a'",
            "\"a\"\"b\"",
            "]",
            "}",
        ] {
            assert_eq!(read(text.as_bytes()), Err(MalformedRecord), "{text:?}");
        }
        assert_eq!(read(b"\"\xff\""), Err(MalformedRecord));
        assert_eq!(read(b"\"\xe2\x80\""), Err(MalformedRecord));
    }

    #[test]
    fn values_are_read_to_their_edges() {
        for text in [
            "{}",
            "[]",
            "0",
            "18446744073709551615",
            "true",
            "false",
            "\"\"",
            "[[],{},\"\",0]",
            "\"\\\"\\\\\\n\\r\\t\\b\\f\\u001b\\u2028\"",
            "\"\u{7f}\u{fffd}\u{1f600}é\"",
        ] {
            assert_eq!(read(text.as_bytes()), Ok(serde_json::from_str(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn deeper_nesting_than_that_of_a_record_is_refused() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let most = JSON_DEPTH_MAX as usize;
        assert!(read(deep(most).as_bytes()).is_ok());
        assert_eq!(read(deep(most + 1).as_bytes()), Err(MalformedRecord));
        assert_eq!(read("[".repeat(100_000).as_bytes()), Err(MalformedRecord));
    }

    #[test]
    fn the_deepest_record_is_as_deep_as_the_reader_goes() {
        fn of(value: &SchemaType) -> u32 {
            match value {
                SchemaType::List(item)
                | SchemaType::Numbered(item)
                | SchemaType::Wrapped(_, item) => 1 + of(item),
                SchemaType::Object(object) => of_object(object),
                _ => 0,
            }
        }
        fn of_object(object: &SchemaObject) -> u32 {
            1 + object.properties.iter().map(|property| of(&property.value)).max().unwrap_or(0)
        }
        let details = DetailsKind::ALL.iter().map(|kind| of_object(&kind.describe()));
        // Around them are the record and `activity_data`.
        assert_eq!(JSON_DEPTH_MAX, 2 + details.max().unwrap());
    }

    #[test]
    fn numbers_may_have_a_fraction() {
        fn read(text: &str) -> Result<(Token<'_>, Token<'_>), MalformedRecord> {
            let mut reader = JsonReader::new(text.as_bytes())?;
            Ok((reader.read()?, reader.read()?))
        }
        for text in ["0.5", "12.050", "800000.001"] {
            assert_eq!(read(text), Ok((Token::Decimal(text), Token::End)));
        }
        assert_eq!(read("12"), Ok((Token::Number(12), Token::End)));
        assert_eq!(read("-1400"), Ok((Token::Negative(-1400), Token::End)));
        let wrong = ["1.", "01.5", ".5", "1.2.3", "1.e", "1.5e3", "1.2345"];
        let negative = ["-", "-0", "-01", "-1.5", "--1", "-9223372036854775809"];
        for wrong in wrong.into_iter().chain(negative) {
            assert_eq!(read(wrong), Err(MalformedRecord), "{wrong}");
        }
    }

    #[test]
    fn the_rest_of_an_object_or_list_is_skipped() {
        let mut reader = JsonReader::new(b"{\"a\":[1,[2],{\"b\":\"]\"}],\"c\":3}").unwrap();
        for expected in [Token::Object, Token::Key("a"), Token::List, Token::Number(1)] {
            assert_eq!(reader.read(), Ok(expected));
        }
        reader.skip_rest().unwrap();
        assert_eq!(reader.read(), Ok(Token::Key("c")));
        reader.skip_rest().unwrap();
        assert_eq!((reader.read(), reader.read()), (Ok(Token::End), Ok(Token::End)));
        reader.skip_rest().unwrap();
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let check = |text, limit, expected| assert_eq!(EscapedString(text).cut(limit), expected);
        check("abc", 3, "abc");
        check("abc", 2, "ab");
        check("a\\u001bc", 6, "a");
        check("a\\u001bc", 7, "a\\u001b");
        check("\\\\\\\\u0041", 5, "\\\\\\\\u");
        check("\\\"", 1, "");
        check("é\u{1f600}", 5, "é");
        check("é\u{1f600}", 1, "");
    }

    /// JSON of every kind, not only what records have.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(16, 64, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z_0-9é\"]{0,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Whether it has only what a record has.
    fn is_plain(value: &Value, depth: u32) -> bool {
        match value {
            Value::Null => false,
            Value::Bool(_) | Value::String(_) => true,
            // With digits alone, a point between them at most.
            Value::Number(number) => {
                let text = number.to_string();
                // -0 is a decimal, too.
                number.is_u64()
                    || number.is_i64()
                    || text.split_once('.').is_some_and(|(whole, fraction)| {
                        let has_digits = fraction.bytes().all(|digit| digit.is_ascii_digit());
                        whole.parse::<u64>().is_ok() && has_digits && fraction.len() <= 3
                    })
            }
            Value::Array(list) => {
                depth < JSON_DEPTH_MAX && list.iter().all(|value| is_plain(value, depth + 1))
            }
            Value::Object(object) => {
                let is_plain = |(key, value): (&String, &Value)| {
                    !key.contains('"') && is_plain(value, depth + 1)
                };
                depth < JSON_DEPTH_MAX && object.iter().all(is_plain)
            }
        }
    }

    proptest! {
        #[test]
        fn json_is_read_as_serde_json_does_or_refused(value in any_json()) {
            let expected =
                if is_plain(&value, 0) { Ok(value.clone()) } else { Err(MalformedRecord) };
            prop_assert_eq!(read(value.to_string().as_bytes()), expected);
        }

        #[test]
        fn damaged_json_is_refused_or_read_as_serde_json_does(
            value in any_json(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            end in any::<prop::sample::Index>(),
        ) {
            let mut text = value.to_string().into_bytes();
            for (at, byte) in changes {
                let at = at.index(text.len());
                text[at] = byte;
            }
            for text in [&text[..], &text[..end.index(text.len())]] {
                if let Ok(value) = read(text) {
                    prop_assert_eq!(serde_json::from_slice::<Value>(text).unwrap(), value);
                }
            }
        }

        #[test]
        fn a_cut_text_is_the_beginning_of_its_value(text in any::<String>(), limit in 0_usize..64) {
            let written = serde_json::to_string(&text).unwrap();
            let written = EscapedString(&written[1..written.len() - 1]);
            let cut = written.cut(limit);
            prop_assert!(cut.len() <= limit && written.as_written().starts_with(cut));
            let value: String = serde_json::from_str(&format!("\"{cut}\"")).unwrap();
            prop_assert!(text.starts_with(&value));
            // The next character would have been too long.
            prop_assert!(cut.len() + 6 > limit || value == text);
        }
    }
}
