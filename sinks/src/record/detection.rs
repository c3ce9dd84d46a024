//! `detection`: what Panoptes adds to a record beyond the guide, under one key after all others.

use crate::json::text::Text;
use crate::json::time::Timestamp;

use super::macros::{details, words};

details! {
    /// Why this is reported and how sure that is.
    pub struct Detection<'a> "detection" {
        /// One sentence with the values it rests on.
        reason: Option<Text<'a>>,
        /// Technique ids.
        mitre_attack: Option<&'a [&'static str]>,
        /// The version of ATT&CK they are from.
        attack_version: Option<&'static str>,
        /// `PANOPTES`
        sensor: Option<&'static str>,
        /// How sure.
        confidence: Option<Confidence>,
        /// When the first scan saw it.
        first_seen: Option<Timestamp>,
        /// In how many scans it stood.
        scans_confirmed: Option<u32>,
    }
}

words! {
    /// How sure a detection is.
    pub enum Confidence {
        Low = "low",
        Medium = "medium",
        High = "high",
    }
}
