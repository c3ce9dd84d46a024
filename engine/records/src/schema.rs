//! The JSON Schema (draft 2020-12) of every record and of every scan line, made from the tables
//! that write them.
//!
//! Every object is closed (`additionalProperties: false`): a key that no table has is an error, in
//! the tests and for readers. Only this module and [`crate::schema_type`] allocate
//! freely: they run when a schema is requested.

use serde_json::{Value, json};

use crate::activities::{Activity, MessageType, Severity};
use crate::dialect::Dialect;
use crate::json::time::Timestamp;
use crate::record::detection::{Detection, Membership};
use crate::record::interface::BluefieldSystem;
use crate::record::scan::ScanKind;
use crate::record::value::{Scalar, Uuid};
use crate::record::workload::{ContainerContext, Workload};
use crate::record::{DetailsKind, DetailsObject, SCHEMA_VERSION};
use crate::schema_type::{SchemaType, closed, truncated};

/// The schema of every record in a dialect.
pub fn record_schema(dialect: Dialect) -> String {
    let mut workload = <Workload<'_>>::schema_object();
    workload.add(
        ContainerContext::KEY,
        SchemaType::Object(<ContainerContext<'_>>::schema_object()),
        false,
    );
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
        "bluefield_system_information": <BluefieldSystem<'_>>::schema_object().json(dialect),
        "workload_information": workload.json(dialect),
        "activity_data": {"type": "object"},
        "detection": {"anyOf": [
            <Detection<'_>>::schema_object().json(dialect),
            Membership::schema_object().json(dialect),
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
    let of_kind = |kind: &ScanKind| [Some(kind.line()), kind.second_line()];
    let lines: Value = ScanKind::ALL
        .iter()
        .flat_map(of_kind)
        .flatten()
        .map(|line| line.json(Dialect::Panoptes))
        .collect();
    json!({"$schema": DRAFT, "title": "Panoptes scan line", "oneOf": lines}).to_string()
}
