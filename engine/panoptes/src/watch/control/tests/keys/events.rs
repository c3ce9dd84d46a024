//! Whether activities are reported, and their severities.

use panoptes_records::activities::{Activity, MessageType, Severity};
use panoptes_records::record::DetailsKind;
use serde_json::json;

use super::super::load::*;
use super::super::*;
use super::turn::*;
use crate::config::{Mode, Overrides, System, SystemSettings, read};
use crate::watch::system_events::Notice;

fn key(activity: &str, setting: &str) -> String {
    format!("default.events.{activity}.{setting}")
}

/// Sets `enabled` and `severity` of some activities to these values.
fn setting(activities: &[&str], setting: &str, value: &str) -> Vec<(String, Value)> {
    activities.iter().map(|one| (key(one, setting), json!(value))).collect()
}

fn apply(service: &Service<'_>, keys: &[(String, Value)]) {
    let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    service.set_and_scan(&keys);
}

/// The severities of the records of an activity.
fn severities<'a>(records: &'a [Value], activity: &str) -> Vec<&'a str> {
    let of_it = records.iter().filter(|record| name(record) == activity);
    of_it.map(|record| record["severity"].as_str().unwrap()).collect()
}

/// In each turn, some activities have another severity, and others are off.
#[test]
fn each_activity_of_a_machine_is_switched_and_weighed_by_a_reload() {
    const EACH: usize = 8;
    under_load(&base(), REAL, |service| {
        let groups: Vec<&[&str]> = CAUSED.chunks(EACH).collect();
        for (at, weighed) in groups.iter().enumerate() {
            let off = groups[(at + 1) % groups.len()];
            let enabled = off.iter().map(|one| key(one, "enabled"));
            let old: Vec<_> = enabled.map(|key| (key.clone(), service.value(&key))).collect();
            let keys = [setting(weighed, "severity", "CRITICAL"), setting(off, "enabled", "false")];
            apply(service, &keys.concat());
            let records = turn(service, at as u16, off);
            for activity in CAUSED {
                let found = severities(&records, activity);
                let is_weighed = weighed.contains(activity);
                assert_eq!(found.is_empty(), off.contains(activity), "{activity}");
                let is_right = |one: &&str| (*one == "CRITICAL") == is_weighed;
                assert!(found.iter().all(is_right), "{activity}: {found:?}");
            }
            let back: Vec<_> =
                weighed.iter().map(|one| (key(one, "severity"), Value::Null)).collect();
            apply(service, &[back, old].concat());
        }
    });
}

/// The activities that the service itself reports, or that are about whole machines.
pub(super) fn of_the_service() -> Vec<&'static str> {
    let is_it = |one: &&Activity| {
        let info = one.info();
        info.own == DetailsKind::SystemActivity && info.message_type != MessageType::Alert
    };
    Activity::ALL.iter().filter(is_it).map(|one| one.name()).collect()
}

/// Reports each of these activities as a worker does.
fn report(service: &Service<'_>, activities: &[&str], reason: &str) {
    let address = SystemAddress::File("ram".into());
    let settings = SystemSettings::default();
    let system = Arc::new(System { name: LIVE.to_owned(), address, settings });
    for name in activities {
        let activity = Activity::ALL.iter().find(|one| one.name() == *name).unwrap();
        let (system, reason) = (Arc::clone(&system), reason.to_owned());
        let notice = Notice::Activity {
            system,
            os_version: None,
            activity: *activity,
            reason,
            profile: None,
        };
        service.notices.send(notice).unwrap();
    }
}

#[test]
fn each_activity_of_the_service_is_switched_and_weighed_by_a_reload() {
    // With it, the end of what is reported is known.
    const LAST: &str = "process_limit_reached";
    let mut all = of_the_service();
    all.retain(|one| *one != LAST);
    all.push(LAST);
    under_load(&[], REAL, |service| {
        let (even, odd): (Vec<_>, Vec<_>) = all.iter().enumerate().partition(|(at, _)| at % 2 == 0);
        let names = |group: Vec<(usize, &&'static str)>| -> Vec<&'static str> {
            group.into_iter().map(|(_, name)| *name).filter(|name| *name != LAST).collect()
        };
        let groups = [names(even), names(odd)];
        for place in ["default", "systems.live"] {
            for (weighed, off) in [(&groups[0], &groups[1]), (&groups[1], &groups[0])] {
                let of = |keys: Vec<(String, Value)>| -> Vec<(String, Value)> {
                    let rename = |key: String| key.replacen("default", place, 1);
                    keys.into_iter().map(|(key, value)| (rename(key), value)).collect()
                };
                let keys = [
                    of(setting(weighed, "severity", "CRITICAL")),
                    of(setting(off, "enabled", "false")),
                    of(setting(weighed, "enabled", "preset")),
                ];
                apply(service, &keys.concat());
                let from = service.count();
                let reason = format!("reload {from}");
                report(service, &all, &reason);
                let is_it = |record: &Value| {
                    record["activity_data"]["system_activity_details"]["reason"] == *reason
                };
                service.record(LAST, from, |record| name(record) == LAST && is_it(record));
                let records = service.records(from, is_it);
                for activity in weighed {
                    assert_eq!(severities(&records, activity), ["CRITICAL"], "{activity}");
                }
                for activity in off {
                    assert_eq!(severities(&records, activity), [""; 0], "{activity}");
                }
                let back: Vec<_> =
                    weighed.iter().map(|one| (key(one, "severity"), Value::Null)).collect();
                apply(service, &of(back));
            }
            let back: Vec<_> = all.iter().map(|one| (key(one, "enabled"), Value::Null)).collect();
            apply(service, &back);
        }
    });
}

/// A scanner gets all at once.
#[test]
fn each_activity_has_its_own_place_in_what_a_scanner_gets() {
    let events = |more: &str| {
        let text = format!("default: {{events: {{{more}}}}}");
        let overrides = Overrides::default();
        let (configuration, problems) = read(&text, Path::new(""), Mode::Run, &overrides);
        assert!(problems.is_empty(), "{problems:?}");
        configuration.default.events.policy(Arc::default(), None)
    };
    let before = events("");
    for activity in Activity::ALL {
        let name = activity.name();
        let after = events(&format!("{name}: {{severity: CRITICAL}}"));
        let changed = after.weights.iter().zip(&before.weights).filter(|(new, old)| new != old);
        let changed: Vec<_> = changed.map(|(new, _)| (new.0, new.1)).collect();
        assert_eq!(changed, [(*activity, Severity::Critical)]);
        for is_enabled in [false, true] {
            let after = events(&format!("{name}: {is_enabled}"));
            assert_eq!(after.config.is_enabled(*activity), is_enabled, "{name}");
        }
    }
}
