//! The JSON Schema (draft 2020-12) of every record and of every scan line, made from the tables
//! that write them.
//!
//! Every object is closed (`additionalProperties: false`): a key that no table has is an error, in
//! the tests and for readers. Only this module allocates freely: it runs when a schema is
//! requested.

use std::fmt::Write as _;

use crate::activities::{Activity, MessageType, Severity};
use crate::record::container::ContainerDetails;
use crate::record::detection::Detection;
use crate::record::file_descriptor::FileDescriptorDetails;
use crate::record::interface::{BluefieldSystem, WorkloadInterface};
use crate::record::network_connection::NetworkConnectionDetails;
use crate::record::process::ProcessDetails;
use crate::record::process_memory::ProcessMemoryDetails;
use crate::record::scan::Kind;
use crate::record::shell_history::ShellCommand;
use crate::record::thread::ThreadDetails;
use crate::record::value::{Namespace, Scalar, UUID_PATTERN};
use crate::record::workload::{ContainerContext, Workload};
use crate::record::{DetailsKind, DetailsObject, SCHEMA_VERSION};

/// The type of a value.
#[derive(Clone, Debug)]
pub enum Type {
    Text,
    Boolean,
    Integer {
        minimum: Option<i64>,
        maximum: Option<u64>,
    },
    /// A string that matches the pattern.
    Pattern(&'static str),
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
    properties: Vec<Property>,
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct Property {
    /// Its key.
    pub name: &'static str,
    pub value: Type,
    /// Whether the object always has it. Other fields are left out while their value is unknown.
    pub required: bool,
    /// The field's meaning and unit: the comment at its declaration. Empty for some.
    pub meaning: &'static str,
}

impl Object {
    /// Adds a field, without a meaning.
    pub fn add(&mut self, name: &'static str, value: Type, required: bool) {
        self.properties.push(Property { name, value, required, meaning: "" });
    }

    pub(crate) fn len(&self) -> usize {
        self.properties.len()
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

    pub fn properties(&self) -> &[Property] {
        &self.properties
    }

    /// The fields of `T`.
    pub fn of<T: DetailsObject>() -> Self {
        let mut object = Self::default();
        T::describe_fields(&mut object);
        object
    }

    /// Prints the schema. Any object may have `truncated`.
    fn print(&self, out: &mut String) {
        out.push_str("{\"type\":\"object\",\"properties\":{");
        for property in &self.properties {
            let _ = write!(out, "\"{}\":", property.name);
            let start = out.len();
            property.value.print(out);
            if !property.meaning.is_empty() {
                let mut description = String::from("{\"description\":");
                push_string(property.meaning, &mut description);
                description.push(',');
                out.replace_range(start..=start, &description);
            }
            out.push(',');
        }
        out.push_str("\"truncated\":{\"const\":true}},\"required\":[");
        let required = self.properties.iter().filter(|property| property.required);
        push_strings(required.map(|property| property.name), out);
        out.push_str("],\"additionalProperties\":false}");
    }
}

impl Type {
    /// An array of `item`.
    pub fn list(item: Self) -> Self {
        Self::List(Box::new(item))
    }

    /// An integer from 0 to `maximum`.
    pub const fn up_to(maximum: u64) -> Self {
        Self::Integer { minimum: Some(0), maximum: Some(maximum) }
    }

    /// An object with the fields of `T`.
    pub fn object<T: DetailsObject>() -> Self {
        Self::Object(Object::of::<T>())
    }

    fn print(&self, out: &mut String) {
        match self {
            Self::Text => out.push_str("{\"type\":\"string\"}"),
            Self::Boolean => out.push_str("{\"type\":\"boolean\"}"),
            Self::Integer { minimum, maximum } => {
                out.push_str("{\"type\":\"integer\"");
                if let Some(minimum) = minimum {
                    let _ = write!(out, ",\"minimum\":{minimum}");
                }
                if let Some(maximum) = maximum {
                    let _ = write!(out, ",\"maximum\":{maximum}");
                }
                out.push('}');
            }
            Self::Pattern(pattern) => {
                out.push_str("{\"type\":\"string\",\"pattern\":");
                push_string(pattern, out);
                out.push('}');
            }
            Self::Words(words) => {
                out.push_str("{\"enum\":[");
                push_strings(words.iter().copied(), out);
                out.push_str("]}");
            }
            Self::Hex { digits } => {
                let _ =
                    write!(out, "{{\"type\":\"string\",\"pattern\":\"^[0-9a-f]{{{digits}}}$\"}}");
            }
            Self::List(item) => {
                out.push_str("{\"type\":\"array\",\"items\":");
                item.print(out);
                out.push('}');
            }
            Self::Numbered(item) => {
                out.push_str("{\"type\":\"object\",\"patternProperties\":{\"^(0|[1-9][0-9]*)$\":");
                item.print(out);
                out.push_str("},\"additionalProperties\":false}");
            }
            Self::Wrapped(key, item) => {
                let _ = write!(out, "{{\"type\":\"object\",\"properties\":{{\"{key}\":");
                item.print(out);
                let _ = write!(out, "}},\"required\":[\"{key}\"],\"additionalProperties\":false}}");
            }
            Self::Object(object) => object.print(out),
        }
    }
}

/// The schema of every record.
pub fn record_schema() -> String {
    let mut out = String::from(concat!(
        "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",",
        "\"title\":\"Panoptes record\",\"type\":\"object\",\"properties\":{",
        "\"vendor_name\":{\"const\":\"PANOPTES\"},\"product_name\":{\"const\":\"PANOPTES\"},",
        "\"product_version\":{\"type\":\"string\"},\"message_type\":{\"enum\":[",
    ));
    let types = [MessageType::Event, MessageType::Alert, MessageType::SystemActivity];
    push_strings(types.into_iter().map(MessageType::name), &mut out);
    out.push_str("]},\"severity\":{\"enum\":[");
    push_strings(Severity::ALL.into_iter().map(Severity::name), &mut out);
    let _ =
        write!(out, "]}},\"schema_version\":{{\"const\":\"{SCHEMA_VERSION}\"}},\"message_id\":");
    Type::Pattern(UUID_PATTERN).print(&mut out);
    out.push_str(",\"occurred_message_time_iso_8601_ns\":");
    crate::json::time::Timestamp::schema().print(&mut out);
    out.push_str(",\"message_timezone\":{\"const\":\"UTC\"},\"user_data\":{\"type\":\"string\"},");
    out.push_str("\"bluefield_system_information\":");
    Object::of::<BluefieldSystem<'_>>().print(&mut out);
    out.push_str(",\"workload_information\":");
    let mut workload = Object::of::<Workload<'_>>();
    workload.add(ContainerContext::KEY, Type::object::<ContainerContext<'_>>(), false);
    workload.print(&mut out);
    out.push_str(",\"activity_data\":{\"type\":\"object\"},\"detection\":");
    Object::of::<Detection<'_>>().print(&mut out);
    out.push_str("},\"required\":[");
    push_strings(HEADER_KEYS.into_iter(), &mut out);
    out.push_str("],\"additionalProperties\":false,\"oneOf\":[");
    for (index, activities) in alike().iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_activities(activities, &mut out);
    }
    out.push_str("],\"$defs\":{");
    for (index, kind) in DetailsKind::ALL.iter().enumerate() {
        let _ = write!(out, "{}\"{}\":", if index > 0 { "," } else { "" }, kind.key());
        kind.describe().print(&mut out);
    }
    out.push_str("}}");
    out
}

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
            (other.message_type, other.own, other.parents)
                == (info.message_type, info.own, info.parents)
        });
        match group {
            Some(group) => group.push(activity),
            None => groups.push(vec![activity]),
        }
    }
    groups
}

/// The schema of `activity_data` for such a group.
fn push_activities(activities: &[Activity], out: &mut String) {
    let info = activities[0].info();
    let is_alert = info.message_type == MessageType::Alert;
    out.push('{');
    if is_alert {
        // Every alert has a reason.
        out.push_str("\"required\":[\"detection\"],");
    }
    out.push_str("\"properties\":{");
    let _ = write!(
        out,
        "\"message_type\":{{\"const\":\"{}\"}},\"activity_data\":{{\
        \"properties\":{{\"name\":{{\"enum\":[",
        info.message_type.name()
    );
    push_strings(activities.iter().map(|activity| activity.name()), out);
    out.push_str("]}");
    for kind in std::iter::once(&info.own).chain(info.parents) {
        let key = kind.key();
        let _ = write!(out, ",\"{key}\":{{\"$ref\":\"#/$defs/{key}\"}}");
    }
    let _ = write!(
        out,
        "}},\"required\":[\"name\",\"{}\"],\"additionalProperties\":false}}}}}}",
        info.own.key()
    );
}

/// The schema of every line of a scan.
pub fn scan_schema() -> String {
    let mut out = String::from(concat!(
        "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",",
        "\"title\":\"Panoptes scan line\",\"oneOf\":[",
    ));
    for (index, &kind) in Kind::ALL.iter().enumerate() {
        let mut whole = Object::default();
        whole.add("kind", Type::Words(&Kind::NAMES[index..=index]), true);
        whole.properties.extend(fields_of(kind).properties);
        if index > 0 {
            out.push(',');
        }
        whole.print(&mut out);
    }
    out.push_str("]}");
    out
}

/// The fields of a scan line after its kind.
fn fields_of(kind: Kind) -> Object {
    match kind {
        Kind::Processes => scan_object::<ProcessDetails<'_>>(Ids::Own),
        Kind::Threads => scan_object::<ThreadDetails>(Ids::Process),
        Kind::Files => scan_object::<FileDescriptorDetails<'_>>(Ids::Process),
        Kind::Memory => scan_object::<ProcessMemoryDetails<'_>>(Ids::Own),
        Kind::Connections => {
            scan_object::<NetworkConnectionDetails<'_>>(Ids::MaybeProcessAndNamespace)
        }
        Kind::Interfaces => scan_object::<WorkloadInterface<'_>>(Ids::Namespace),
        Kind::Containers => scan_object::<ContainerDetails<'_>>(Ids::Own),
        Kind::ShellHistory => scan_object::<ShellCommand<'_>>(Ids::Process),
    }
}

/// The fields of a scan line besides its details.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ids {
    Own,
    Process,
    MaybeProcessAndNamespace,
    Namespace,
}

fn scan_object<T: DetailsObject>(ids: Ids) -> Object {
    let mut object = Object::default();
    if matches!(ids, Ids::Process | Ids::MaybeProcessAndNamespace) {
        object.add("process_id", u32::schema(), ids == Ids::Process);
    }
    T::describe_fields(&mut object);
    if matches!(ids, Ids::MaybeProcessAndNamespace | Ids::Namespace) {
        object.add("network_namespace", Namespace::schema(), false);
    }
    object
}

/// Quoted, with commas between.
fn push_strings<'a>(strings: impl Iterator<Item = &'a str>, out: &mut String) {
    for (index, string) in strings.enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_string(string, out);
    }
}

/// Quoted. Panoptes' words and patterns have no control characters.
fn push_string(string: &str, out: &mut String) {
    out.push('"');
    for character in string.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}
