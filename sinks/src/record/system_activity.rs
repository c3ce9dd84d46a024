//! `system_activity_details`: what Panoptes says of itself.

use crate::json::text::Text;

use super::macros::details;

details! {
    /// Why, and whatever it is about.
    pub struct SystemActivityDetails<'a> "system_activity_details" {
        /// One sentence for people.
        reason: Text<'a>,
        /// Which table is full: its key in the configuration's `limits`.
        limit: Option<&'static str>,
        /// How many entries it holds.
        capacity: Option<u64>,
        /// How many newcomers had no place.
        untracked: Option<u64>,
        /// Which output lost records.
        output: Option<Text<'a>>,
        /// How many records it lost.
        dropped: Option<u64>,
        /// Which profile: a name, a path or a build id.
        profile: Option<Text<'a>>,
        /// Which file or device.
        path: Option<Text<'a>>,
        /// Processes born since the last report, by the kernel's own count.
        processes_born: Option<u64>,
        /// How many of them were seen.
        processes_seen: Option<u64>,
        /// How many came and went between two scans.
        processes_unseen: Option<u64>,
    }
}
