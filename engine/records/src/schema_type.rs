//! The types of fields, and their JSON Schema.
//!
//! Only this module and [`crate::schema`] allocate freely: they run when a schema is requested.

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;

/// The type of a value.
#[derive(Clone, Debug)]
pub enum SchemaType {
    Text,
    Boolean,
    /// An integer that is not negative.
    Integer {
        maximum: Option<u64>,
    },
    /// A string that matches the pattern.
    Pattern(&'static str),
    /// A time, always of one length.
    Time,
    /// One of these strings.
    Words(&'static [&'static str]),
    /// Lower-case hex of a fixed length.
    Hex {
        digits: usize,
    },
    /// An array.
    List(Box<SchemaType>),
    /// An object keyed "0", "1", …
    Numbered(Box<SchemaType>),
    /// An object with one key.
    Wrapped(&'static str, Box<SchemaType>),
    /// An object of named fields.
    Object(SchemaObject),
}

/// The fields of an object, in their order.
#[derive(Clone, Debug, Default)]
pub struct SchemaObject {
    pub properties: Vec<Property>,
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct Property {
    /// Its key.
    pub name: &'static str,
    /// Its second key in the dialect of another product.
    pub alias: Option<&'static str>,
    pub value: SchemaType,
    /// Whether the object always has it. Other fields are left out while their value is unknown.
    pub required: bool,
    /// The field's meaning and unit: the comment at its declaration. Empty for some.
    pub meaning: &'static str,
}

impl SchemaObject {
    /// Adds a field, without a meaning.
    pub fn add(&mut self, name: &'static str, value: SchemaType, required: bool) {
        self.properties.push(Property { name, alias: None, value, required, meaning: "" });
    }

    /// Gives the last field a second key.
    pub(crate) fn alias_last(&mut self, alias: &'static str) {
        if let Some(property) = self.properties.last_mut() {
            property.alias = Some(alias);
        }
    }

    /// Gives a meaning to the fields from index `first` on that have none.
    pub(crate) fn explain_from(&mut self, first: usize, meaning: &'static str) {
        for property in &mut self.properties[first..] {
            if property.meaning.is_empty() {
                property.meaning = meaning.trim_ascii();
            }
        }
    }

    /// Makes all fields from index `first` on optional.
    pub(crate) fn make_optional_from(&mut self, first: usize) {
        for property in &mut self.properties[first..] {
            property.required = false;
        }
    }

    /// Returns the JSON Schema. Any object may have `truncated`.
    pub(crate) fn json(&self, dialect: Dialect) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for property in &self.properties {
            let mut value = property.value.json(dialect);
            if !property.meaning.is_empty() {
                value["description"] = property.meaning.into();
            }
            let alias = property.alias.filter(|_| dialect.is_foreign());
            for name in [property.name].into_iter().chain(alias) {
                properties.insert(name.to_owned(), value.clone());
                if property.required && !may_be_unknown(&property.value, dialect) {
                    required.push(name);
                }
            }
        }
        properties.insert("truncated".to_owned(), truncated(dialect));
        closed(properties, required)
    }
}

/// Whether a field of this type is left out where its value is not known, even if it is required.
fn may_be_unknown(value: &SchemaType, dialect: Dialect) -> bool {
    dialect.is_foreign() && matches!(value, SchemaType::Time)
}

/// The schema of `truncated`.
pub(crate) fn truncated(dialect: Dialect) -> Value {
    if dialect.is_foreign() { json!({"const": "true"}) } else { json!({"const": true}) }
}

/// The schema of an object that has no other fields than `properties`.
pub(crate) fn closed<'a>(
    properties: impl Into<Value>,
    required: impl IntoIterator<Item = &'a str>,
) -> Value {
    json!({
        "type": "object",
        "properties": properties.into(),
        "required": Value::from_iter(required),
        "additionalProperties": false,
    })
}

impl SchemaType {
    /// An array of `item`.
    pub fn list(item: Self) -> Self {
        Self::List(Box::new(item))
    }

    /// An integer from 0 to `maximum`.
    pub const fn up_to(maximum: u64) -> Self {
        Self::Integer { maximum: Some(maximum) }
    }

    /// Returns the JSON Schema.
    pub(crate) fn json(&self, dialect: Dialect) -> Value {
        match self {
            Self::Text => json!({"type": "string"}),
            Self::Boolean if dialect.is_foreign() => json!({"enum": ["false", "true"]}),
            Self::Integer { .. } if dialect.is_foreign() => {
                json!({"type": "string", "pattern": "^(0|[1-9][0-9]{0,19})$"})
            }
            Self::Boolean => json!({"type": "boolean"}),
            Self::Integer { maximum: None } => json!({"type": "integer", "minimum": 0}),
            Self::Integer { maximum } => {
                json!({"type": "integer", "minimum": 0, "maximum": maximum})
            }
            Self::Pattern(pattern) => json!({"type": "string", "pattern": pattern}),
            Self::Time => json!({"type": "string", "pattern": TIME_PATTERN}),
            Self::Words(words) => json!({"enum": words}),
            Self::Hex { digits } => {
                json!({"type": "string", "pattern": format!("^[0-9a-f]{{{digits}}}$")})
            }
            Self::List(item) => json!({"type": "array", "items": item.json(dialect)}),
            Self::Numbered(item) => json!({
                "type": "object",
                "patternProperties": {"^(0|[1-9][0-9]*)$": item.json(dialect)},
                "additionalProperties": false,
            }),
            Self::Wrapped(key, item) => closed(json!({*key: item.json(dialect)}), [*key]),
            Self::Object(object) => object.json(dialect),
        }
    }
}

const TIME_PATTERN: &str =
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}\+00:00$";
