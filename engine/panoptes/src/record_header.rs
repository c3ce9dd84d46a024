//! The header of records: who watches, and with which severities.

use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use panoptes_records::json::Limits;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_records::record::value::IndexedObjects;

use crate::config::{Configuration, Events, System};
use crate::interfaces::HostInterface;

/// The header of records about Panoptes itself, with the severities of `default`.
pub(crate) fn header_of_service(
    configuration: &Configuration,
    interfaces: &[HostInterface],
) -> RecordHeader {
    let Configuration { service, output, default, .. } = configuration;
    let limits = Limits::new(default.limits.string_length as usize);
    let dialect = service.compatibility.dialect();
    header(dialect, &output.user_data, interfaces, limits, &default.events)
}

/// The header of records about a system, without interfaces of this machine.
pub(crate) fn header_of_system(configuration: &Configuration, system: &System) -> RecordHeader {
    let limits = Limits::new(system.settings.limits.string_length as usize);
    let dialect = configuration.service.compatibility.dialect();
    header(dialect, &configuration.output.user_data, &[], limits, &system.settings.events)
}

pub(crate) fn header(
    dialect: Dialect,
    user_data: &str,
    interfaces: &[HostInterface],
    limits: Limits,
    events: &Events,
) -> RecordHeader {
    let records: Vec<_> = interfaces.iter().map(HostInterface::record).collect();
    let watcher =
        BluefieldSystem { bluefield_networking_interfaces: Some(IndexedObjects(&records)) };
    let mut header = RecordHeader::in_dialect(dialect, &user_data.into(), &watcher, limits);
    set_weights(&mut header, events);
    header
}

fn set_weights(header: &mut RecordHeader, events: &Events) {
    for (activity, _) in events.iter() {
        set_weight(header, events, activity);
    }
}

pub(crate) fn set_weight(header: &mut RecordHeader, events: &Events, activity: Activity) {
    header.set_severity(activity, events.get(activity).severity);
    header.set_preset(activity, events.preset_of(activity));
}

/// Formats `6.1.0-37-amd64` as records name it: `Linux Kernel 6.1`.
pub(crate) fn os_version(release: &str) -> String {
    let mut numbers = release.splitn(3, ['.', '-', '+']);
    let (major, minor) = (numbers.next().unwrap_or(""), numbers.next().unwrap_or(""));
    format!("Linux Kernel {major}.{minor}")
}
