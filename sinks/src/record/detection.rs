//! `detection`: evidence that Panoptes adds to a record beyond the guide, under the last key.

use crate::json::text::Text;
use crate::json::time::Timestamp;

use super::macros::{details, words};

details! {
    /// Why an activity is reported, and with what confidence.
    pub struct Detection<'a> "detection" {
        /// One sentence with the values that the detection is based on.
        reason: Option<Text<'a>>,
        /// ATT&CK technique ids.
        mitre_attack: Option<&'a [&'static str]>,
        attack_version: Option<&'static str>,
        /// `PANOPTES`
        sensor: Option<&'static str>,
        confidence: Option<Confidence>,
        /// Time of the scan that saw it first.
        first_seen: Option<Timestamp>,
        /// Number of scans that confirmed it.
        scans_confirmed: Option<u32>,
    }
}

impl Detection<'_> {
    /// Whether every field is set, as in every alert.
    pub fn is_whole(&self) -> bool {
        let Self {
            reason,
            mitre_attack,
            attack_version,
            sensor,
            confidence,
            first_seen,
            scans_confirmed,
        } = self;
        reason.is_some()
            && mitre_attack.is_some_and(|ids| !ids.is_empty())
            && attack_version.is_some()
            && sensor.is_some()
            && confidence.is_some()
            && first_seen.is_some()
            && scans_confirmed.is_some()
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
            let mut detection = Detection {
                reason: Some("it is much".into()),
                mitre_attack: Some(&["T1041"]),
                attack_version: Some("19"),
                sensor: Some("PANOPTES"),
                confidence: Some(Confidence::High),
                first_seen: Some(Timestamp::from_ns(0)),
                scans_confirmed: None,
            };
            let unfinished = detection;
            record.detection = Some(&unfinished);
            assert_eq!(record.says_why(), !is_alert, "{activity:?}");
            detection.scans_confirmed = Some(1);
            record.detection = Some(&detection);
            assert!(record.says_why());
        }
    }
}
