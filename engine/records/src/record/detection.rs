//! `detection`: evidence that Panoptes adds to a record beyond the guide, under the last key.

use crate::json::command_line::CommandText;
use crate::json::text::Text;
use crate::json::time::Timestamp;
use crate::words::words;

use super::macros::details;
use super::value::{Objects, Uuid};

/// The version of ATT&CK that technique ids are from.
pub const ATTACK_VERSION: &str = "19";
/// The detector.
const SENSOR: &str = "PANOPTES";

details! {
    /// Why an activity is reported, and with what confidence.
    pub struct Detection<'a> "detection" complete {
        /// One sentence with the values that the detection is based on.
        reason: CommandText<'a>,
        /// ATT&CK technique ids.
        mitre_attack: &'a [&'static str],
        attack_version: &'static str,
        /// `PANOPTES`
        sensor: &'static str,
        confidence: Confidence,
        /// Time of the scan that saw it first.
        first_seen: Timestamp,
        /// Number of scans that confirmed it.
        scans_confirmed: u32,
        /// The incident that it belongs to: the `message_id` of the incident's first alert.
        incident_id: Option<Uuid>,
        /// In the first alert of an incident: `message_id` of earlier records about its processes
        /// (`process_created`, `process_executed`, `network_connection_created`, alerts), as far as
        /// they are remembered. In `alerts_summed_up`: that of the last alert of this cause that
        /// was written.
        earlier_message_ids: Option<&'a [Uuid]>,
        /// In alerts of severity HIGH: the process's parent, the parent's parent and so on, up to
        /// the child of process 1.
        process_ancestors: Option<Objects<'a, Ancestor<'a>>>,
    }
}

details! {
    /// A process from which another one descends.
    pub struct Ancestor<'a> "ancestor" {
        /// The tgid.
        process_id: u32,
        /// `comm`
        process_name: Text<'a>,
        /// Absolute path, with ` (deleted)` as /proc has it.
        process_executable_path: Option<Text<'a>>,
        /// Real uid, in the first user namespace.
        process_real_user_id: Option<u32>,
    }
}

details! {
    /// What an event that belongs to an incident has in place of a reason.
    pub struct Membership "detection" {
        /// The incident that it belongs to: the `message_id` of the incident's first alert.
        incident_id: Uuid,
    }
}

impl<'a> Detection<'a> {
    /// `techniques` are ids of [`ATTACK_VERSION`].
    pub const fn new(
        reason: CommandText<'a>,
        techniques: &'a [&'static str],
        confidence: Confidence,
        first_seen: Timestamp,
        scans_confirmed: u32,
    ) -> Self {
        Self {
            reason,
            mitre_attack: techniques,
            attack_version: ATTACK_VERSION,
            sensor: SENSOR,
            confidence,
            first_seen,
            scans_confirmed,
            incident_id: None,
            earlier_message_ids: None,
            process_ancestors: None,
        }
    }

    /// Adds the incident that it belongs to.
    #[must_use]
    pub const fn of_incident(self, incident: Option<Uuid>) -> Self {
        Self { incident_id: incident, ..self }
    }

    /// Adds what happened before: ids of earlier records, and the process's ancestors, of which
    /// `is_cut` leaves some out. Empty lists are left out.
    #[must_use]
    pub fn with_past(
        self,
        earlier: &'a [Uuid],
        ancestors: &'a [Ancestor<'a>],
        is_cut: bool,
    ) -> Self {
        Self {
            earlier_message_ids: (!earlier.is_empty()).then_some(earlier),
            process_ancestors: (!ancestors.is_empty())
                .then_some(Objects::cut_if(ancestors, is_cut)),
            ..self
        }
    }
}

words! {
    pub enum Confidence {
        Low = "low",
        Medium = "medium",
        High = "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activities::{Activity, MessageType};
    use crate::record::network_connection::NetworkConnectionDetails;
    use crate::record::{Details, Record};

    #[test]
    fn no_alert_goes_without_saying_why() {
        let own = NetworkConnectionDetails::default();
        for &activity in Activity::ALL {
            let mut record = Record::new(activity, Details::NetworkConnection(&own));
            let is_alert = activity.info().message_type == MessageType::Alert;
            assert_eq!(record.says_why(), !is_alert, "{activity:?}");
            let reason = "it is much".into();
            let (since, techniques) = (Timestamp::from_ns(0), &["T1041"]);
            let detection = Detection::new(reason, techniques, Confidence::High, since, 1);
            record.detection = Some(&detection);
            assert!(record.says_why());
        }
    }
}
