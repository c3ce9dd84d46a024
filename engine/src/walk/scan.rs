//! The order of a scan.

use panoptes_decoders::source::MemorySource;

use super::unchanged_machine::ScanOrigin;
use super::{Budget, Kernel, ScanError, ScannedMemory, Scope, Snapshot, Walker};

impl Walker {
    /// Scans once, without allocating.
    pub fn scan<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        scope: Scope,
    ) -> Result<&Snapshot, ScanError> {
        self.scan_within(source, kernel, scope, &Budget::NONE)
    }

    /// Scans once within a budget. [`Snapshot::left`] has what it leaves for the next scan, which
    /// begins there.
    pub fn scan_within<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        scope: Scope,
        budget: &Budget<'_>,
    ) -> Result<&Snapshot, ScanError> {
        let memory = &mut ScannedMemory::new(source, kernel, *budget);
        self.begin_scan(memory, scope);
        self.snapshot.is_light = false;
        self.read_rows(memory, scope, false)
    }

    /// The same, but keeps the rows of the last scan if no task has run on the machine since that
    /// scan began ([`Snapshot::is_kept`]). If one has, the scan may be a light one
    /// ([`Walker::set_light`]).
    pub fn scan_changes<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        scope: Scope,
        budget: &Budget<'_>,
    ) -> Result<&Snapshot, ScanError> {
        let memory = &mut ScannedMemory::new(source, kernel, *budget);
        self.begin_scan(memory, scope);
        if self.keep_rows(memory, scope)? {
            return Ok(&self.snapshot);
        }
        let may_lighten = self.may_lighten();
        self.snapshot.is_light = self.may_be_light && (may_lighten || !self.idle.rests_on());
        let has_counts = self.idle.has_counts(self.origin(scope));
        self.snapshot.has_run = !self.snapshot.has_rested && has_counts;
        self.read_rows(memory, scope, may_lighten)
    }

    /// Reads the facts about the machine, and whether it has rested since the last scan.
    fn begin_scan(&mut self, memory: &mut ScannedMemory<'_>, scope: Scope) {
        self.reader.forget_translations();
        self.read_machine(memory);
        self.snapshot.modules.clear();
        self.snapshot.bpf.clear();
        let origin = self.origin(scope);
        self.snapshot.has_rested = self.idle.has_rested(origin, &self.snapshot);
        (self.snapshot.is_kept, self.snapshot.has_run) = (false, false);
    }

    pub(super) const fn origin(&self, scope: Scope) -> ScanOrigin {
        ScanOrigin { system: self.system, scan: self.scans, scope }
    }

    /// Makes all rows anew. Those of a light scan are worth keeping only if it `keeps_light` ones.
    fn read_rows(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        scope: Scope,
        keeps_light: bool,
    ) -> Result<&Snapshot, ScanError> {
        self.clear();
        let kernel = memory.kernel;
        let tasks = self.read_tasks(memory);
        memory.goes_on()?;
        tasks?;
        self.group_threads(memory);
        if self.snapshot.processes.is_empty() {
            return Err(ScanError::NoProcess);
        }
        self.scratch.shares.begin(self.snapshot.processes.len());
        self.read_processes(memory);
        self.mark_resting();
        if scope.command_lines {
            self.read_command_lines(memory);
        }
        memory.goes_on()?;
        if scope.files || scope.connections {
            self.read_descriptors(memory);
            memory.goes_on()?;
        }
        if scope.memory {
            self.read_areas(memory);
            self.read_names(memory);
            memory.goes_on()?;
        }
        self.read_files(memory);
        memory.goes_on()?;
        if scope.modules {
            self.read_modules(memory, scope);
            memory.goes_on()?;
        }
        if scope.bpf {
            self.read_bpf(memory);
            memory.goes_on()?;
        }
        self.read_without_descriptors(memory, scope)?;
        if scope.connections {
            self.read_connections(memory);
            memory.goes_on()?;
        }
        if scope.udp_ports {
            self.read_udp_ports(memory);
            memory.goes_on()?;
        }
        if scope.interfaces {
            self.update_interfaces(memory);
        }
        self.follow_control_groups(kernel);
        self.check_descriptors(memory);
        self.check_rings(memory);
        self.check_stability(memory);
        self.find_ended_tasks(memory);
        self.find_run_queues(memory);
        memory.goes_on()?;
        self.note_missing(kernel);
        self.ignore_tears(memory);
        self.snapshot.work = memory.meter.spent();
        self.snapshot.count_dropped();
        self.snapshot.blame(self.scratch.shares.refused);
        self.resting.note(&self.snapshot);
        self.snapshot.is_light &= self.snapshot.left.of_resting > 0;
        let origin = self.origin(scope);
        self.idle.count(origin, &self.snapshot.machine);
        if self.is_whole() && (!self.snapshot.is_light || keeps_light) {
            self.idle.end(origin);
        }
        Ok(&self.snapshot)
    }

    /// Reads what processes use without a descriptor.
    fn read_without_descriptors(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        scope: Scope,
    ) -> Result<(), ScanError> {
        if scope.files || scope.connections {
            self.read_rings(memory);
            memory.goes_on()?;
        }
        if scope.files && !self.snapshot.is_light {
            self.read_queues(memory);
            memory.goes_on()?;
        }
        Ok(())
    }
}
