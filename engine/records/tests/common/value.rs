//! A text, read to its end by `json::read`, as the value of serde_json.
//!
//! The tests of `json::read` and the fuzz target `record` compare it with what serde_json reads.

use serde_json::{Map, Value};

use super::{JsonReader, MalformedRecord, Token};

/// The whole text. Panics if something follows its value.
pub(super) fn read(text: &[u8]) -> Result<Value, MalformedRecord> {
    let mut reader = JsonReader::new(text)?;
    let first = reader.read()?;
    let value = value_of(&mut reader, first)?;
    assert_eq!(reader.read()?, Token::End);
    Ok(value)
}

fn value_of(reader: &mut JsonReader<'_>, token: Token<'_>) -> Result<Value, MalformedRecord> {
    Ok(match token {
        Token::Object => {
            let mut object = Map::new();
            while let Token::Key(key) = reader.read()? {
                let token = reader.read()?;
                object.insert(key.to_owned(), value_of(reader, token)?);
            }
            Value::Object(object)
        }
        Token::List => {
            let mut list = Vec::new();
            loop {
                match reader.read()? {
                    Token::ListEnd => break Value::Array(list),
                    token => list.push(value_of(reader, token)?),
                }
            }
        }
        Token::Text(text) => Value::String(text.characters().collect()),
        Token::Number(number) => number.into(),
        Token::Negative(number) => number.into(),
        Token::Decimal(number) => serde_json::from_str(number).expect("a number"),
        Token::Boolean(value) => value.into(),
        token @ (Token::Key(_) | Token::ObjectEnd | Token::ListEnd | Token::End) => {
            panic!("{token:?} in place of a value")
        }
    })
}
