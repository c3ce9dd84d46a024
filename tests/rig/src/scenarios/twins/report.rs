//! The result of a run of twins.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use panoptes_records::activities::{Activity, Preset};
use serde_json::Value;

use super::super::outcome::{Outcome, shown};
use super::super::watcher::Volume;
use super::super::{DEGRADED, PROCESS_TERMINATED};
use super::{Turns, Twin};

/// The result of a run.
#[derive(Clone, Debug)]
pub struct TwinReport {
    pub kernel: String,
    /// Whether the watcher knew what should run.
    pub sbom: bool,
    pub time: Duration,
    pub twins: Vec<(&'static Twin, Turns)>,
    /// The records of each activity, as an output with `preset: everything` and `header: compact`
    /// has them.
    pub activities: BTreeMap<String, Volume>,
    /// Alerts that no attack explains, and records of what was not seen.
    pub alerts: Vec<Value>,
    /// The attacks that were played.
    pub attacks: Vec<Outcome>,
}

impl TwinReport {
    /// Whether each twin ran, all attacks were reported, and no other alert came.
    pub fn is_good(&self) -> bool {
        self.alerts.is_empty()
            && self.has_each_twin_run()
            && self.attacks.iter().all(Outcome::is_met)
    }

    fn has_each_twin_run(&self) -> bool {
        self.twins.iter().all(|(_, turns)| turns.has_good())
    }

    /// Number of processes that were seen to end.
    pub fn processes(&self) -> usize {
        self.activities.get(PROCESS_TERMINATED).map_or(0, |volume| volume.records)
    }

    /// The records that an output with this preset has.
    pub fn volume(&self, preset: Preset) -> Volume {
        let mut sum = Volume::default();
        for (name, volume) in &self.activities {
            if Activity::from_name(name).is_some_and(|activity| activity.preset() <= preset) {
                sum += *volume;
            }
        }
        sum
    }

    /// The twins, the records, the attacks and the alerts, for people.
    pub fn table(&self) -> String {
        let sbom = if self.sbom { "with an SBOM" } else { "without an SBOM" };
        let mut out = format!("Linux {}, {sbom}, {} s\n", self.kernel, self.time.as_secs());
        let _ = writeln!(out, "{:<13} {:>5} {:>7}  what", "twin", "turns", "failed");
        for (twin, turns) in &self.twins {
            let _ = writeln!(
                out,
                "{:<13} {:>5} {:>7}  {}",
                twin.name, turns.good, turns.bad, twin.about
            );
            if !turns.output.is_empty() {
                let _ = writeln!(out, "              {}", turns.output);
            }
        }
        let _ = writeln!(
            out,
            "{:>9} {:>9}  activity, of {} processes",
            "records",
            "MB",
            self.processes()
        );
        let mut by_size: Vec<_> = self.activities.iter().collect();
        by_size.sort_by_key(|(_, volume)| std::cmp::Reverse(volume.bytes));
        for (name, volume) in by_size {
            let _ = writeln!(out, "{:>9} {:>9.2}  {name}", volume.records, volume.megabytes());
        }
        for attack in &self.attacks {
            let words = if attack.is_met() { "reported" } else { "NOT reported as expected" };
            let _ = writeln!(out, "attack {}: {}: {words}", attack.id, attack.name);
        }
        for alert in &self.alerts {
            let _ = writeln!(out, "ALERT {}", shown(alert));
        }
        let _ = writeln!(
            out,
            "{} of {} attacks reported; {} other alerts and {DEGRADED}; each twin {}",
            self.attacks.iter().filter(|attack| attack.is_met()).count(),
            self.attacks.len(),
            self.alerts.len(),
            if self.has_each_twin_run() { "ran" } else { "did NOT run" }
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_has_the_records_of_its_activities() {
        let volume = |records, bytes| Volume { records, bytes };
        let activities = [
            ("process_terminated", volume(2, 20)),
            ("new_file_mapped", volume(30, 300)),
            ("reverse_shell_detected", volume(4, 400)),
            ("", volume(1, 1)),
        ];
        let report = TwinReport {
            kernel: String::new(),
            sbom: false,
            time: Duration::ZERO,
            twins: Vec::new(),
            activities: activities.map(|(name, volume)| (name.to_owned(), volume)).into(),
            alerts: Vec::new(),
            attacks: Vec::new(),
        };
        assert_eq!(report.processes(), 2);
        assert_eq!(report.volume(Preset::Alerts), volume(4, 400));
        assert_eq!(report.volume(Preset::Security), volume(6, 420));
        assert_eq!(report.volume(Preset::Everything), volume(36, 720));
    }
}
