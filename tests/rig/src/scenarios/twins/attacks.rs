//! Attacks that are planted among the twins: scenarios, one each minute.

use std::ops::Range;
use std::time::Duration;

use serde_json::Value;

use super::super::outcome::{Outcome, is_extra};
use super::super::run::{Choice, Machine};
use super::super::watcher::{Arrival, Watcher, is_finding};
use super::super::{Scenario, Stage, all};
use super::TwinChoice;
use crate::error::{Error, Result};

/// The time between the beginnings of two attacks; the first begins after half of it.
const INTERVAL: Duration = Duration::from_mins(1);
/// How long after the last required record an extra record may still come.
const QUIET: Duration = Duration::from_millis(700);

/// The attacks, and those that were played.
pub(super) struct Attacks {
    choice: Choice,
    played: Vec<Played>,
}

struct Played {
    scenario: &'static Scenario,
    outcome: Outcome,
    /// The records that came from its beginning to its end.
    records: Range<usize>,
}

impl Attacks {
    pub(super) fn new(choice: &TwinChoice) -> Result<Self> {
        let all = all()?;
        let find = |id: &&str| -> Result<&'static Scenario> {
            let scenario = all.iter().find(|scenario| scenario.id == *id);
            let scenario = scenario.ok_or_else(|| Error::new(format!("no scenario {id}")))?;
            // In this stage every alert counts.
            Ok(Box::leak(Box::new(Scenario { stage: Stage::Shipped, ..*scenario })))
        };
        let scenarios: Result<Vec<_>> = choice.attacks.iter().map(find).collect();
        let choice = Choice {
            flavor: choice.flavor,
            scenarios: scenarios?,
            quiet: QUIET,
            log_folder: None,
            host: None,
            files: Vec::new(),
        };
        Ok(Self { choice, played: Vec::new() })
    }

    /// Plays the next one if it is due, and returns its outcome.
    pub(super) fn play_next(
        &mut self,
        elapsed: Duration,
        machine: &mut Machine,
        watcher: &Watcher,
    ) -> Option<&Outcome> {
        let number = self.played.len();
        let due = INTERVAL / 2 + INTERVAL * u32::try_from(number).ok()?;
        let scenarios = &self.choice.scenarios;
        let scenario = *scenarios.get(number % scenarios.len().max(1))?;
        if elapsed < due {
            return None;
        }
        let from = watcher.count();
        let outcome = machine.play(watcher, &self.choice, scenario);
        self.played.push(Played { scenario, outcome, records: from..watcher.count() });
        self.played.last().map(|played| &played.outcome)
    }

    /// The findings that no attack explains, among all kept records.
    pub(super) fn others(&self, kept: Vec<Arrival>) -> Vec<Value> {
        let mut others = Vec::new();
        for (index, arrival) in kept.into_iter().enumerate() {
            let during = self.played.iter().find(|played| played.records.contains(&index));
            let is_explained = |played: &Played| {
                arrival.is_alert()
                    && !is_extra(played.scenario, &arrival.record, &played.outcome.facts)
            };
            if is_finding(&arrival.record) && !during.is_some_and(is_explained) {
                others.push(arrival.record);
            }
        }
        others
    }

    pub(super) fn into_outcomes(self) -> Vec<Outcome> {
        self.played.into_iter().map(|played| played.outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::super::super::outcome::{Facts, evaluate};
    use super::super::super::{Count, Expected};
    use super::*;

    static SHELL: Scenario = Scenario {
        expect: &[Expected {
            activity: "reverse_shell_detected",
            fields: &[("process.process_id", "7")],
            count: Count::Exactly(1),
            distinct: None,
        }],
        ..Scenario::new("T1", "a shell")
    };

    fn arrival(name: &str, message_type: &str, pid: u64) -> Arrival {
        let record = json!({
            "message_type": message_type,
            "activity_data": { "name": name, "process_details": { "process_id": pid } },
        });
        Arrival { at: Instant::now(), record }
    }

    #[test]
    fn an_attack_explains_its_own_alerts_while_it_is_played() {
        let shell = |pid| arrival("reverse_shell_detected", "ALERT", pid);
        let kept = vec![
            shell(7), // before
            shell(7),
            shell(8), // another one
            arrival("process_created", "EVENT", 9),
            arrival("coverage_degraded", "SYSTEM_ACTIVITY", 9),
            shell(7), // after
        ];
        let outcome = evaluate(&SHELL, &kept[1..5], None, &Facts::new());
        let choice = Choice {
            flavor: crate::Flavor::from_name("6.1").unwrap(),
            scenarios: Vec::new(),
            quiet: QUIET,
            log_folder: None,
            host: None,
            files: Vec::new(),
        };
        let played = vec![Played { scenario: &SHELL, outcome, records: 1..5 }];
        assert!(played[0].outcome.is_met());
        let others = Attacks { choice, played }.others(kept.clone());
        let expected = [0, 2, 4, 5].map(|index: usize| kept[index].record.clone());
        assert_eq!(others, expected);
    }
}
