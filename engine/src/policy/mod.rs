//! Decides what to report, and in which form: from facts to records and to lines of `panoptes
//! scan`.
//!
//! Activities and attributes are those of the guide: NVIDIA's *DOCA Argus Service Guide*
//! (`docs/compatibility.md`, "The guide").
//!
//! [`describe`] fills the details objects of both. [`lines`] prints a snapshot. [`changes`] turns
//! changes into records, as [`config`] allows. The findings of each detector have a module with
//! that detector's name, which [`Findings::found`] calls, and `evidence` has the reason of an
//! alert. `write` writes each record: `causes` and `repetitions` count alerts that say the same
//! once more, `incidents` ties those of one act together, `ancestors` lists where a process came
//! from, and [`exceptions`] are the alerts that are not written.
//!
//! Nothing is missed silently: `retry_queue` keeps urgent records for which the queue is full,
//! `floods` counts the events of each process, [`gaps`] tracks what is not seen, and `loss_records`
//! reports both. `intervals` measures the time between scans.

mod alert_floods;
mod ancestors;
mod binary_attestation;
mod causes;
pub mod changes;
mod clock;
pub mod config;
mod connections;
mod containers;
pub mod describe;
mod ebpf_lines;
mod ebpf_programs;
mod ebpf_words;
mod evidence;
pub mod exceptions;
mod file_content;
mod file_permissions;
mod floods;
pub mod gaps;
mod hidden;
mod hidden_connections;
mod incidents;
mod integrity;
mod intervals;
mod kernel_code;
mod kernel_events;
mod kernel_modules;
mod last_contents;
pub mod lines;
mod loss_rate;
mod loss_records;
mod memory_permissions;
mod module_words;
mod packages;
mod path_change;
mod process_executed;
mod repetitions;
mod retry_queue;
mod reverse_shells;
mod shell_history;
mod subject_names;
mod suppressed_beginnings;
mod techniques;
#[cfg(test)]
mod tests;
mod write;

pub use clock::{ClockTampering, SetBack};
pub use config::{BpfTag, PolicyConfig};

use std::sync::Arc;

use panoptes_records::queue::Producer;
use panoptes_records::record::RecordWriter;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::redact::Redactor;
use panoptes_tables::HashKey;

use alert_floods::AlertFloods;
use ancestors::Ancestors;
use containers::ContainerPolicy;
use exceptions::Exceptions;
use floods::Floods;
use gaps::{GAPS_MAX, Gaps};
use incidents::Incidents;
use integrity::VerdictCounts;
use intervals::Intervals;
use kernel_events::KernelEvents;
use last_contents::LastContents;
use repetitions::Repetitions;
use retry_queue::UndeliveredRecords;
use suppressed_beginnings::UnwrittenProcesses;

use crate::container_config::ContainerConfig;
use crate::detect::binary_attestation::ShippedFiles;
use crate::detect::{Acceptance, Finding, Findings};
use crate::limits::Limits;
use crate::state::ScanContext;
use crate::time::Monotonic;

/// Decides about the records of one machine and writes them.
#[derive(Debug)]
pub struct Policy {
    config: PolicyConfig,
    header: RecordHeader,
    writer: RecordWriter,
    containers: ContainerPolicy,
    exceptions: Arc<Exceptions>,
    floods: Floods,
    alert_floods: AlertFloods,
    kernel_events: KernelEvents,
    repetitions: Repetitions,
    last_contents: LastContents,
    incidents: Incidents,
    /// `None` only while an alert is written.
    ancestors: Option<Ancestors>,
    unwritten: UnwrittenProcesses,
    undelivered: UndeliveredRecords,
    gaps: Gaps,
    intervals: Intervals,
    /// The checks of the kernel's code in the last round; `None` if there was none.
    checks: Option<VerdictCounts>,
}

impl Policy {
    /// `message_ids` is random, drawn afresh for each machine.
    pub fn new(
        limits: &Limits,
        config: PolicyConfig,
        header: RecordHeader,
        message_ids: u64,
        key: HashKey,
    ) -> Self {
        let writer = RecordWriter::new(message_ids, limits.string_length as usize);
        let containers = ContainerPolicy::new(limits.containers);
        let floods = Floods::new(limits, key);
        let alert_floods = AlertFloods::new(limits, key);
        let repetitions = Repetitions::new(key);
        let incidents = Incidents::new(limits, key);
        let unwritten = UnwrittenProcesses::new(limits, key);
        let undelivered = UndeliveredRecords::new();
        Self {
            config,
            header,
            writer,
            containers,
            exceptions: Arc::default(),
            floods,
            alert_floods,
            kernel_events: KernelEvents::new(limits.events_per_second),
            repetitions,
            last_contents: LastContents::new(),
            incidents,
            ancestors: Some(Ancestors::new()),
            unwritten,
            undelivered,
            gaps: Gaps::new(),
            intervals: Intervals::new(),
            checks: None,
        }
    }

    /// Sets the SBOMs, which may name the images of containers.
    pub fn set_shipped(&mut self, shipped: Arc<ShippedFiles>) {
        self.containers.set_shipped(shipped);
    }

    /// Sets which containers are reported, and their images.
    pub fn set_containers(&mut self, config: Arc<ContainerConfig>) {
        self.containers.set(config);
    }

    /// Sets which alerts are silenced.
    pub fn set_exceptions(&mut self, exceptions: Arc<Exceptions>) {
        self.exceptions = exceptions;
    }

    /// Sets what finds the secrets in arguments and shell commands.
    pub fn set_redactor(&mut self, redactor: Option<Redactor>) {
        self.writer.set_redactor(redactor);
    }

    /// Sets which activities are reported.
    pub fn set_config(&mut self, config: PolicyConfig) {
        self.config = config;
    }

    pub fn header_mut(&mut self) -> &mut RecordHeader {
        &mut self.header
    }

    /// Returns the number that scans missed since each gap began; 0 if there is no gap.
    pub fn gap_counts(&self) -> [u64; GAPS_MAX] {
        self.gaps.counts()
    }

    /// Sets the time from one scan to the next that is wanted, in nanoseconds.
    pub fn set_scan_interval(&mut self, ns: u64) {
        self.intervals.wanted = ns;
    }

    /// The time from one scan to the next that is wanted, in nanoseconds; 0 if nobody scans
    /// regularly.
    pub fn scan_interval(&self) -> u64 {
        self.intervals.wanted
    }

    /// Notes that a scan begins.
    pub fn note_scan(&mut self, now: Monotonic) {
        self.intervals.note_scan(now);
        self.alert_floods.note_time(now);
        self.repetitions.note_time(now);
        self.incidents.note_time(now);
    }

    /// Notes how much of its budget of work a scan has used, in percent.
    pub fn note_budget_used(&mut self, percent: u32) {
        self.intervals.note_budget_used(percent);
    }

    /// Adds changes that only a scan of everything found.
    pub fn note_found_late(&mut self, count: u64) {
        self.intervals.note_found_late(count);
    }

    /// Passes on urgent records for which the queue had no room before.
    pub fn offer_undelivered(&mut self, out: &mut Producer) {
        if !self.undelivered.is_empty() {
            self.undelivered.offer(out);
        }
    }

    /// Drops urgent records for which the queue had no room, and counts them.
    fn drop_undelivered(&mut self, out: &mut Producer) {
        out.count_refused(self.undelivered.clear() as u64);
    }

    /// Accepts all alerts from now on, however many: no scan follows.
    pub fn end_alert_floods(&mut self) {
        self.alert_floods.end();
    }

    /// A receiver of changes that writes records into `out`.
    pub fn reporter<'a>(&'a mut self, out: &'a mut Producer) -> Reporter<'a> {
        Reporter { policy: self, out }
    }
}

/// Turns changes into records.
#[derive(Debug)]
pub struct Reporter<'a> {
    policy: &'a mut Policy,
    out: &'a mut Producer,
}

impl Findings for Reporter<'_> {
    fn found(&mut self, cx: &ScanContext<'_>, finding: &Finding<'_>) -> Acceptance {
        match *finding {
            Finding::BinaryAttestation(alert) => self.binary_attestation(cx, alert),
            Finding::FileContent(change) => self.file_content(cx, change),
            Finding::HiddenConnection(hidden) => self.hidden_connection(cx, hidden),
            Finding::MemoryPermissions(judged) => self.memory_permissions(cx, judged),
            Finding::PackageFiles(found) => self.package_files(cx, found),
            Finding::PathChange(change) => self.path_change(cx, change),
            Finding::PermissionChange(change) => self.permission_change(cx, change),
            Finding::ReverseShell(shell) => self.reverse_shell(cx, shell),
            Finding::ShellHistory(event) => self.shell_history(cx, event),
        }
    }
}
