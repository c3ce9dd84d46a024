//! `detection`: evidence that Panoptes adds to a record beyond the guide, under the last key.

use crate::json::text::Text;
use crate::json::time::Timestamp;

use super::macros::{details, words};

/// The version of ATT&CK that technique ids are from.
pub const ATTACK_VERSION: &str = "19";
/// The detector.
const SENSOR: &str = "PANOPTES";

details! {
    /// Why an activity is reported, and with what confidence.
    pub struct Detection<'a> "detection" complete {
        /// One sentence with the values that the detection is based on.
        reason: Text<'a>,
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
    }
}

impl<'a> Detection<'a> {
    /// `techniques` are ids of [`ATTACK_VERSION`].
    pub const fn new(
        reason: Text<'a>,
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
