//! `system_activity_details`: what Panoptes reports about itself.

use crate::json::text::Text;
use crate::json::time::Timestamp;

use super::macros::details;
use super::value::Hash;

details! {
    /// The reason, and the object concerned.
    pub struct SystemActivityDetails<'a> "system_activity_details" {
        /// One sentence for people.
        reason: Text<'a>,
        /// The full table: its key in the configuration's `limits`.
        limit: Option<&'static str>,
        /// The table's number of entries.
        capacity: Option<u64>,
        /// Number of objects that had no place in the table.
        untracked: Option<u64>,
        /// The output that lost records, or failed.
        output: Option<Text<'a>>,
        /// Number of records that the output lost.
        dropped: Option<u64>,
        /// Kinds of objects that are not seen.
        gap: Option<&'static str>,
        /// How many were missed since the last record about this gap.
        missed: Option<u64>,
        /// The structure at which a scan stopped early most often, and the reason: `unreadable at`,
        /// `changed at`, `loop at`, `longer than` or `no room among`. The address or number is that
        /// of the first one. Only in the gaps `unreadable`, `unbounded`, `untracked` and
        /// `unjudged`.
        stop_reason: Option<Text<'a>>,
        /// A process that causes the gap: of several, the one that was found last.
        process_id: Option<u32>,
        /// The processes that caused it since the last record about this gap, in the order in which
        /// they were found. Another one is in a record within a second.
        process_ids: Option<&'a [u32]>,
        /// How many each of them caused.
        missed_by_process: Option<&'a [u64]>,
        /// Number of further processes that caused it, and that no record has named.
        further_processes: Option<u32>,
        /// Since when the gap lasts, or lasted.
        since_iso_8601_ns: Option<Timestamp>,
        /// The activity of the events or alerts that were summed up, or of the alerts that an
        /// exception silenced.
        activity: Option<&'static str>,
        /// Their number.
        count: Option<u64>,
        /// In `alerts_summed_up`: the names of their processes, each once, in the order in which
        /// they came; at most 8.
        process_names: Option<&'a [Text<'a>]>,
        /// In `alerts_summed_up` of several changed files: their paths, each once, in the order in
        /// which they came; at most 64.
        paths: Option<&'a [Text<'a>]>,
        /// In `alerts_summed_up`: `true` if `paths` lacks some.
        paths_truncated: Option<bool>,
        /// In `alerts_summed_up` of a changed file, whose path is in `path`: its `st_size` at the
        /// last alert.
        last_file_size_bytes: Option<u64>,
        /// Its `st_mtim` then.
        last_file_modify_time_iso_8601_ns: Option<Timestamp>,
        /// The hash of its content then, if that was known.
        last_file_hash_sha256: Option<Hash<32>>,
        /// A profile's name, path or build id.
        profile: Option<Text<'a>>,
        /// A file or device.
        path: Option<Text<'a>>,
        /// Processes created since the last report, by the kernel's own count.
        processes_born: Option<u64>,
        /// How many of them a scan saw.
        processes_seen: Option<u64>,
        /// How many began and ended between two scans.
        processes_unseen: Option<u64>,
        /// The configured time from one scan to the next.
        scan_interval_ns: Option<u64>,
        /// The time that was reached since the last report, or for the last minute: the mean.
        scan_interval_mean_ns: Option<u64>,
        /// 99 of 100 times were at most this long, within 3 %.
        scan_interval_p99_ns: Option<u64>,
        /// The longest time.
        scan_interval_max_ns: Option<u64>,
        /// Number of these times.
        scans: Option<u64>,
        /// The most that a scan used of its budget of work since the last report, in percent: the
        /// largest of batches, bytes and rows.
        scan_budget_used_max_percent: Option<u32>,
        /// Number of changes that only a scan of everything found, because no task had run by the
        /// kernel's own counts. They are reported up to a second late.
        changes_found_late: Option<u64>,
        /// In `coverage_report`: number of checks of the kernel's code that the last round has made
        /// wholly, without a violation.
        checks_holding: Option<u32>,
        /// Number of checks that found a violation in that round. A hook of a module that the
        /// kernel's list has does not count.
        checks_violated: Option<u32>,
        /// Number of checks that were not made, or not wholly, and found no violation.
        checks_not_made: Option<u32>,
        /// The keys of the configuration that have changed and apply now. A system or an element of
        /// a list that is new or gone has one key for all of its own.
        keys: Option<&'a [Text<'a>]>,
        /// The keys that have changed and apply only after a restart.
        needs_restart: Option<&'a [Text<'a>]>,
    }
}
