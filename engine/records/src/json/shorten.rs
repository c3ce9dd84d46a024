//! Shortens a record for receivers that take less than [`RECORD_BYTES_MAX`].
//!
//! The keys stay, with their order. Long lists lose their last elements, and strings in them their
//! ends, those of interfaces first, because every record has them; then other strings are cut, and
//! at last sentences and what the user wrote. Every object that lost something gets
//! `"truncated":true`. Short strings stay: times, ids, hashes and the name of the activity.
//!
//! [`RECORD_BYTES_MAX`]: crate::record::RECORD_BYTES_MAX

use super::read::{EscapedString, JsonReader, MalformedRecord, Token};
use super::{Full, JsonWriter, Limits};
use crate::dialect::Dialect;

/// Writes `record` into `out`, shortened if it is longer than that.
///
/// Gives [`Full`] if the shortest form is too long, or `record` is no record of Panoptes.
pub fn shorten(record: &[u8], out: &mut [u8]) -> Result<usize, Full> {
    if let Some(room) = out.get_mut(..record.len()) {
        room.copy_from_slice(record);
        return Ok(record.len());
    }
    // The first cut that is short enough, if every later one is. A later one can be longer: an
    // element has place in a list, because the lists in it have become shorter. Then the last.
    let (mut from, mut to) = (0, LengthLimits::LAST);
    while from < to {
        let middle = usize::midpoint(from, to);
        match write(record, LengthLimits::at(middle, out.len()), out) {
            Ok(_) => to = middle,
            Err(Full) => from = middle + 1,
        }
    }
    write(record, LengthLimits::at(to, out.len()), out)
        .or_else(|Full| write(record, LengthLimits::at(LengthLimits::LAST, out.len()), out))
}

/// Maximum lengths of what is written, in bytes, escapes included.
#[derive(Clone, Copy, Debug)]
struct LengthLimits {
    /// Lists of interfaces, which are objects keyed "0", "1", …
    numbered: usize,
    lists: usize,
    texts: usize,
    /// Reasons and `user_data`.
    sentences: usize,
}

/// What stays in any case: a list of a few numbers or techniques, and a string with a digest of an
/// image or a process's name in escapes.
const LIST_BYTES: usize = 64;
const TEXT_BYTES: usize = 96;

/// How often the length of one kind of value is reduced, from the whole room to the least.
const STEPS: usize = 18;
/// Down to half of the room for one list, and an eighth of it for a sentence: more than that is cut
/// only when all strings are short. So a list keeps the first of its objects as long as possible.
const FIRST_STEPS_OF_LISTS: usize = 3;
const FIRST_STEPS_OF_SENTENCES: usize = 7;

impl LengthLimits {
    /// The number of the shortest cut.
    const LAST: usize = 3 * STEPS;

    /// The cut of this number: every next one is shorter.
    fn at(number: usize, room: usize) -> Self {
        let mut left = number;
        let mut take = |most: usize| {
            let steps = left.min(most);
            left -= steps;
            steps
        };
        let mut lists = take(FIRST_STEPS_OF_LISTS);
        let texts = take(STEPS);
        let mut sentences = take(FIRST_STEPS_OF_SENTENCES);
        lists += take(STEPS - FIRST_STEPS_OF_LISTS);
        sentences += take(STEPS - FIRST_STEPS_OF_SENTENCES);
        let lists = limit(lists, room, LIST_BYTES);
        Self {
            numbered: lists.min(room / 16),
            lists,
            texts: limit(texts, room, TEXT_BYTES),
            sentences: limit(sentences, room, TEXT_BYTES),
        }
    }
}

/// The whole room, three quarters of it, half of it, three quarters of that, and so on.
fn limit(steps: usize, room: usize, least: usize) -> usize {
    match steps {
        0 => usize::MAX,
        STEPS.. => least,
        _ => ((room >> ((steps - 1) / 2)) / 4 * (4 - (steps - 1) % 2)).max(least),
    }
}

/// Writes the record so cut.
fn write(record: &[u8], cut: LengthLimits, out: &mut [u8]) -> Result<usize, Full> {
    let mut out = JsonWriter::new(out, Limits::new(usize::MAX));
    out.set_dialect(Dialect::of(record));
    let mut shortener = Shortener { reader: JsonReader::new(record)?, cut };
    let first = shortener.reader.read()?;
    shortener.value("", first, &mut out)?;
    if shortener.reader.read()? != Token::End {
        return Err(Full);
    }
    Ok(out.length())
}

/// A text that is no record of Panoptes has no shorter form.
impl From<MalformedRecord> for Full {
    fn from(MalformedRecord: MalformedRecord) -> Self {
        Self
    }
}

/// Copies values from a record.
#[derive(Debug)]
struct Shortener<'r> {
    reader: JsonReader<'r>,
    cut: LengthLimits,
}

impl<'r> Shortener<'r> {
    /// The value of a key, or an element of its list. `token` is its first one.
    fn value(&mut self, key: &str, token: Token<'r>, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        match token {
            Token::Object => self.object(key, out),
            Token::List => self.list(key, self.cut.lists, out),
            Token::Text(text) => self.text(key, text, out),
            Token::Number(number) => out.number("", number),
            Token::Negative(number) => out.number("-", number.unsigned_abs()),
            Token::Decimal(number) => out.raw(number.as_bytes()),
            Token::Boolean(value) => out.boolean("", value),
            Token::Key(_) | Token::ObjectEnd | Token::ListEnd | Token::End => Err(Full),
        }
    }

    fn object(&mut self, key: &str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        let begin = self.reader;
        if self.reader.read()? == Token::Key("0") {
            self.reader = begin;
            let start = out.length();
            self.list(key, self.cut.numbered, out)?;
            out.replace_brackets(start);
            return Ok(());
        }
        self.reader = begin;
        out.object(|out| {
            while let Token::Key(key) = self.reader.read()? {
                match self.reader.read()? {
                    // It comes after all others.
                    Token::Boolean(true) | Token::Text(_) if key == "truncated" => {
                        out.set_truncated();
                    }
                    value => {
                        out.raw(b",")?;
                        append_key(key, out)?;
                        self.value(key, value, out)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// The elements that fit into `limit`, with their keys if they have some.
    fn list(&mut self, key: &str, limit: usize, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        let (start, cut) = (out.length(), self.cut);
        // The values in an element get a part only, or one long value would leave no room for the
        // first element: a process of a reverse shell has three lists and half a dozen texts.
        self.cut.lists = limit / 8;
        self.cut.texts = cut.texts.min((limit / 16).max(TEXT_BYTES));
        loop {
            let (begin, before) = (self.reader, out.length());
            let mut token = self.reader.read()?;
            if matches!(token, Token::ListEnd | Token::ObjectEnd) {
                break;
            }
            let result = out.raw(b",").and_then(|()| {
                if let Token::Key(number) = token {
                    append_key(number, out)?;
                    token = self.reader.read()?;
                }
                self.value(key, token, out)
            });
            // An element without room is over the limit only if the room is as long as the limit.
            let is_over = match result {
                Ok(()) => out.length() - start > limit,
                Err(Full) if out.out.len() - start >= limit => true,
                Err(Full) => return Err(Full),
            };
            if is_over {
                self.reader = begin;
                self.reader.skip_rest()?;
                out.length = before;
                out.set_truncated();
                break;
            }
        }
        self.cut = cut;
        if out.length() == start {
            return out.raw(b"[]");
        }
        out.out[start] = b'[';
        out.raw(b"]")
    }

    fn text(
        &self,
        key: &str,
        text: EscapedString<'_>,
        out: &mut JsonWriter<'_>,
    ) -> Result<(), Full> {
        let limit = match key {
            "reason" | USER_DATA => self.cut.sentences,
            _ => self.cut.texts,
        };
        let kept = text.cut(limit);
        // A record itself has no `truncated`, and the user knows what was set.
        if kept.len() < text.as_written().len() && key != USER_DATA {
            out.set_truncated();
        }
        out.raw(b"\"")?;
        out.raw(kept.as_bytes())?;
        out.raw(b"\"")
    }
}

const USER_DATA: &str = "user_data";

fn append_key(key: &str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
    out.raw(b"\"")?;
    out.raw(key.as_bytes())?;
    out.raw(b"\":")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::record::RECORD_BYTES_MAX;

    fn shortened(record: &str, room: usize) -> Option<String> {
        let mut out = vec![0; room];
        let length = shorten(record.as_bytes(), &mut out).ok()?;
        out.truncate(length);
        Some(String::from_utf8(out).unwrap())
    }

    /// Checks that `short` has what was in `long`, or the beginning of it. Returns whether the
    /// object around it lost something.
    fn is_cut(long: &Value, short: &Value) -> bool {
        match (long, short) {
            (Value::Object(long), Value::Object(short)) if long.contains_key("0") => {
                for number in (0..short.len()).map(|number| number.to_string()) {
                    assert!(!is_cut(&long[&number], &short[&number]));
                }
                short.len() < long.len()
            }
            (Value::Object(long), Value::Object(short)) => {
                let keys = |object: &serde_json::Map<String, Value>| -> Vec<String> {
                    object.keys().filter(|key| *key != "truncated").cloned().collect()
                };
                assert_eq!(keys(long), keys(short));
                let lost =
                    keys(long).iter().filter(|key| is_cut(&long[*key], &short[*key])).count();
                let is_marked = lost > 0 || long.contains_key("truncated");
                assert_eq!(short.contains_key("truncated"), is_marked, "{lost} of {short:?}");
                false
            }
            (Value::Array(long), Value::Array(short)) => {
                let lost = short.iter().zip(long).filter(|(short, long)| is_cut(long, short));
                lost.count() > 0 || short.len() < long.len()
            }
            (Value::String(long), Value::String(short)) => {
                assert!(long.starts_with(short), "{short:?} for {long:?}");
                short.len() < long.len()
            }
            (long, short) => {
                assert_eq!(long, short);
                false
            }
        }
    }

    fn keys(text: &str) -> Vec<&str> {
        let mut reader = JsonReader::new(text.as_bytes()).unwrap();
        let mut keys = Vec::new();
        loop {
            match reader.read().unwrap() {
                Token::Key("truncated") => {}
                Token::Key(key) => keys.push(key),
                Token::End => return keys,
                _ => {}
            }
        }
    }

    fn interface(number: u32) -> Value {
        json!({"name": format!("eth{number}"), "addresses": ["10.0.2.15", "10.0.2.16"]})
    }

    /// About 2,000 bytes each of interfaces, of a text and of a reason, and 7,000 of a list.
    fn record() -> String {
        let interfaces: Vec<_> =
            (0..36).map(|number| format!("\"{number}\":{}", interface(number))).collect();
        let (threads, line): (Vec<u32>, _) = ((1000..2400).collect(), "é".repeat(1000));
        let record = json!({
            "a_message_id": "01a2f3c4-0000-7000-8000-000000000001",
            "b_workload": {"interfaces": "INTERFACES", "name": "web-1"},
            "c_details": {"threads": threads, "techniques": ["T1059.004"], "line": line},
            "d_detection": {"reason": "x".repeat(2000)},
        });
        let interfaces = format!("{{{}}}", interfaces.join(","));
        record.to_string().replace("\"INTERFACES\"", &interfaces)
    }

    #[test]
    fn lists_of_interfaces_are_cut_first_then_lists_then_texts_then_sentences() {
        let record = record();
        let (long, whole) = (serde_json::from_str::<Value>(&record).unwrap(), record.len());
        assert!((13_000..13_500).contains(&whole), "{whole}");
        let lost = |room: usize| {
            let text = shortened(&record, room).unwrap();
            assert!(text.len() <= room);
            let short: Value = serde_json::from_str(&text).unwrap();
            assert!(!is_cut(&long, &short));
            assert_eq!(short["a_message_id"], long["a_message_id"]);
            assert_eq!(short["c_details"]["techniques"], long["c_details"]["techniques"]);
            [
                &["b_workload", "interfaces"],
                &["c_details", "threads"],
                &["c_details", "line"],
                &["d_detection", "reason"],
            ]
            .map(|[object, key]| short[object][key] != long[object][key])
        };
        assert_eq!(lost(whole), [false; 4]);
        assert_eq!(lost(whole - 1), [true, false, false, false]);
        assert_eq!(lost(whole - 1000), [true, false, false, false]);
        assert_eq!(lost(whole - 3000), [true, true, false, false]);
        assert_eq!(lost(whole - 4500), [true, true, true, false]);
        assert_eq!(lost(1000), [true, true, true, true]);
    }

    #[test]
    fn what_is_too_long_in_its_shortest_form_or_no_record_is_refused() {
        assert_eq!(shortened(&record(), 300), None);
        for text in
            ["{\"a\":null,\"b\":\"cccccccccccccc\"}", "[[[[[[[[[[[[1]]]]]]]]]]]]", "{} 1234"]
        {
            assert_eq!(shortened(text, text.len() - 1), None, "{text}");
        }
    }

    #[test]
    fn an_element_that_has_nothing_to_cut_is_left_out_with_all_after_it() {
        let fields: serde_json::Map<_, _> =
            (0..1000).map(|number| (format!("a{number}"), number.into())).collect();
        let long = json!({"list": [1, fields, 2], "next": 3}).to_string();
        let expected = "{\"list\":[1],\"next\":3,\"truncated\":true}";
        assert_eq!(shortened(&long, 8000).as_deref(), Some(expected));
    }

    #[test]
    fn a_long_text_in_a_list_is_cut_before_the_list_is() {
        let long = json!({"list": ["x".repeat(9000), "y"]}).to_string();
        let expected = json!({"list": ["x".repeat(500), "y"], "truncated": true}).to_string();
        assert_eq!(shortened(&long, 8000), Some(expected));
    }

    #[test]
    fn what_was_cut_before_stays_marked_once() {
        let list: Vec<u32> = (0..100).collect();
        let long = format!("{{\"list\":{},\"truncated\":true}}", json!(list));
        let short = shortened(&long, long.len() - 1).unwrap();
        assert_eq!(short.matches("truncated").count(), 1);
    }

    #[test]
    fn user_data_is_cut_without_a_mark() {
        let long = json!({"user_data": "x".repeat(5000), "number": 1}).to_string();
        let short: Value = serde_json::from_str(&shortened(&long, 1000).unwrap()).unwrap();
        assert_eq!((&short["number"], short.get("truncated")), (&json!(1), None));
        assert!(!short["user_data"].as_str().unwrap().is_empty());
    }

    /// A value, as the text of a record has it.
    fn any_value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(|value| value.to_string()),
            any::<u64>().prop_map(|value| value.to_string()),
            "[ -~]{0,8}".prop_map(|text| json!(text).to_string()),
            any::<String>().prop_map(|text| json!(text).to_string()),
            "[a\\x00\"é]{0,300}".prop_map(|text| json!(text).to_string()),
        ];
        leaf.prop_recursive(4, 100, 12, |inner| {
            let values = proptest::collection::vec(inner, 0..12);
            prop_oneof![
                values.clone().prop_map(|values| format!("[{}]", values.join(","))),
                (values.clone(), any::<bool>()).prop_map(|(values, cut)| object(&values, cut)),
                values.prop_map(|values| {
                    let objects = values.iter().enumerate().map(|(number, value)| {
                        format!("\"{number}\":{}", object(std::slice::from_ref(value), false))
                    });
                    format!("{{{}}}", objects.collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    /// An object whose keys are not in the order of the alphabet.
    fn object(values: &[String], is_cut: bool) -> String {
        let fields = values
            .iter()
            .enumerate()
            .map(|(number, value)| format!("\"{}_{number}\":{value}", ["b", "c", "a"][number % 3]))
            .chain(is_cut.then(|| "\"truncated\":true".to_owned()));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_shortened_record_has_the_beginnings_of_the_same_values_in_their_order(
            values in proptest::collection::vec(any_value(), 1..12),
            part in 0.0..1.0,
        ) {
            let long = object(&values, false);
            prop_assert!(JsonReader::new(long.as_bytes()).is_ok());
            let room = (long.len() as f64 * part) as usize;
            let Some(short) = shortened(&long, room) else {
                let shortest = LengthLimits::at(LengthLimits::LAST, room);
                prop_assert!(write(long.as_bytes(), shortest, &mut vec![0; room]).is_err());
                return Ok(());
            };
            prop_assert!(short.len() <= room);
            let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            prop_assert!(!is_cut(&value(&long), &value(&short)));
            let (keys, kept) = (keys(&long), keys(&short));
            let mut all = keys.iter();
            prop_assert!(kept.iter().all(|key| all.any(|other| other == key)));
        }

        #[test]
        fn a_room_for_the_shortest_form_is_enough(
            values in proptest::collection::vec(any_value(), 1..12),
        ) {
            let long = object(&values, false);
            let mut room = vec![0; RECORD_BYTES_MAX];
            let limits = LengthLimits::at(LengthLimits::LAST, room.len());
            let Ok(least) = write(long.as_bytes(), limits, &mut room) else {
                return Ok(());
            };
            // Whether an element is over its limit may show only behind the limit. With less room,
            // lists of interfaces are shorter.
            let short = shortened(&long, (least + LIST_BYTES).max(16 * LIST_BYTES));
            prop_assert!(short.is_some(), "{} bytes were enough", least);
        }
    }
}
