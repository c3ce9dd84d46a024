//! The JSON Schema (draft 2020-12) of every record and of every scan line, made from the tables
//! that write them.
//!
//! Every object is closed (`additionalProperties: false`): a key that no table has is an error, in
//! the tests and for readers. Only this module allocates freely: it runs when a schema is
//! requested.

use serde_json::{Map, Value, json};

use crate::activities::{Activity, MessageType, Severity};
use crate::dialect::Dialect;
use crate::json::time::Timestamp;
use crate::record::detection::{Detection, Membership};
use crate::record::interface::BluefieldSystem;
use crate::record::scan::Kind;
use crate::record::value::{Scalar, Uuid};
use crate::record::workload::{ContainerContext, Workload};
use crate::record::{DetailsKind, DetailsObject, SCHEMA_VERSION};

/// The type of a value.
#[derive(Clone, Debug)]
pub enum Type {
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
    List(Box<Type>),
    /// An object keyed "0", "1", …
    Numbered(Box<Type>),
    /// An object with one key.
    Wrapped(&'static str, Box<Type>),
    /// An object of named fields.
    Object(Object),
}

/// The fields of an object, in their order.
#[derive(Clone, Debug, Default)]
pub struct Object {
    pub properties: Vec<Property>,
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct Property {
    /// Its key.
    pub name: &'static str,
    /// Its second key in the dialect of another product.
    pub alias: Option<&'static str>,
    pub value: Type,
    /// Whether the object always has it. Other fields are left out while their value is unknown.
    pub required: bool,
    /// The field's meaning and unit: the comment at its declaration. Empty for some.
    pub meaning: &'static str,
}

impl Object {
    /// Adds a field, without a meaning.
    pub fn add(&mut self, name: &'static str, value: Type, required: bool) {
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

    /// The fields of `T`.
    pub fn of<T: DetailsObject>() -> Self {
        let mut object = Self::default();
        T::describe_fields(&mut object);
        object
    }

    /// The schema. Any object may have `truncated`.
    fn json(&self, dialect: Dialect) -> Value {
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
fn may_be_unknown(value: &Type, dialect: Dialect) -> bool {
    dialect.is_foreign() && matches!(value, Type::Time)
}

/// The schema of `truncated`.
fn truncated(dialect: Dialect) -> Value {
    if dialect.is_foreign() { json!({"const": "true"}) } else { json!({"const": true}) }
}

/// The schema of an object that has no other fields than `properties`.
fn closed<'a>(properties: impl Into<Value>, required: impl IntoIterator<Item = &'a str>) -> Value {
    json!({
        "type": "object",
        "properties": properties.into(),
        "required": Value::from_iter(required),
        "additionalProperties": false,
    })
}

impl Type {
    /// An array of `item`.
    pub fn list(item: Self) -> Self {
        Self::List(Box::new(item))
    }

    /// An integer from 0 to `maximum`.
    pub const fn up_to(maximum: u64) -> Self {
        Self::Integer { maximum: Some(maximum) }
    }

    /// An object with the fields of `T`.
    pub fn object<T: DetailsObject>() -> Self {
        Self::Object(Object::of::<T>())
    }

    fn json(&self, dialect: Dialect) -> Value {
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

/// The schema of every record in a dialect.
pub fn record_schema(dialect: Dialect) -> String {
    let mut workload = Object::of::<Workload<'_>>();
    workload.add(ContainerContext::KEY, Type::object::<ContainerContext<'_>>(), false);
    let properties = json!({
        "vendor_name": {"const": dialect.vendor_name()},
        "product_name": {"const": dialect.product_name()},
        "product_version": {"type": "string"},
        "message_type": MessageType::schema().json(dialect),
        "severity": Severity::schema().json(dialect),
        "schema_version": {"const": SCHEMA_VERSION},
        "message_id": Uuid::schema().json(dialect),
        "occurred_message_time_iso_8601_ns": Timestamp::schema().json(dialect),
        "message_timezone": {"const": "UTC"},
        "user_data": {"type": "string"},
        "bluefield_system_information": Object::of::<BluefieldSystem<'_>>().json(dialect),
        "workload_information": workload.json(dialect),
        "activity_data": {"type": "object"},
        "detection": {"anyOf": [
            Object::of::<Detection<'_>>().json(dialect),
            Object::of::<Membership>().json(dialect),
        ]},
    });
    let is_always_there =
        |key: &&str| !(dialect.is_foreign() && *key == "occurred_message_time_iso_8601_ns");
    let mut schema = closed(properties, HEADER_KEYS.into_iter().filter(is_always_there));
    schema["$schema"] = DRAFT.into();
    schema["title"] = "Panoptes record".into();
    schema["oneOf"] = alike().iter().map(|of| of_activities(of, dialect)).collect();
    let details = DetailsKind::ALL.iter().map(|kind| (kind.key(), kind.describe().json(dialect)));
    schema["$defs"] = details.collect();
    schema.to_string()
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The header's keys in the order of the records.
pub const HEADER_KEYS: [&str; 13] = [
    "vendor_name",
    "product_name",
    "product_version",
    "message_type",
    "severity",
    "schema_version",
    "message_id",
    "occurred_message_time_iso_8601_ns",
    "message_timezone",
    "user_data",
    "bluefield_system_information",
    "workload_information",
    "activity_data",
];

/// The activities in groups with the same type, own details and parents.
fn alike() -> Vec<Vec<Activity>> {
    let mut groups: Vec<Vec<Activity>> = Vec::new();
    for &activity in Activity::ALL {
        let info = activity.info();
        let group = groups.iter_mut().find(|group| {
            let other = group[0].info();
            (other.message_type, other.own, other.parents, group[0].is_weighed())
                == (info.message_type, info.own, info.parents, activity.is_weighed())
        });
        match group {
            Some(group) => group.push(activity),
            None => groups.push(vec![activity]),
        }
    }
    groups
}

/// The schema of records for such a group.
fn of_activities(activities: &[Activity], dialect: Dialect) -> Value {
    let info = activities[0].info();
    let names: Vec<&str> = activities.iter().map(|activity| activity.name()).collect();
    let mut data = json!({"name": {"enum": names}});
    let ends = ends_of(activities);
    if !ends.is_empty() {
        data["name"]["description"] = ends.into();
    }
    for kind in std::iter::once(&info.own).chain(info.parents_in(dialect)) {
        data[kind.key()] = json!({"$ref": format!("#/$defs/{}", kind.key())});
    }
    if dialect.is_foreign() && info.own == DetailsKind::ReverseShell {
        for property in info.own.describe().properties {
            data[property.name] = property.value.json(dialect);
        }
        data["truncated"] = truncated(dialect);
    }
    let mut types = json!({"const": info.message_type.word()});
    if activities[0].is_weighed() {
        types = json!({"enum": [MessageType::Event.word(), MessageType::Alert.word()]});
    }
    let mut schema = json!({"properties": {
        "message_type": types,
        "activity_data": {
            "properties": data,
            "required": ["name", info.own.key()],
            "additionalProperties": false,
        },
    }});
    if info.message_type == MessageType::Alert {
        // Every alert has a reason.
        schema["required"] = json!(["detection"]);
        schema["properties"]["detection"] = json!({"required": ["reason"]});
    }
    schema
}

/// What ends the objects that records of these activities report as new.
fn ends_of(activities: &[Activity]) -> String {
    let ends = activities.iter().filter_map(|activity| {
        let (name, end) = (activity.name(), activity.end()?);
        Some(format!("What `{name}` reports ends with {end}."))
    });
    ends.collect::<Vec<_>>().join(" ")
}

/// The schema of every line of a scan.
pub fn scan_schema() -> String {
    let lines: Value = Kind::ALL.iter().map(|kind| kind.line().json(Dialect::Panoptes)).collect();
    json!({"$schema": DRAFT, "title": "Panoptes scan line", "oneOf": lines}).to_string()
}
