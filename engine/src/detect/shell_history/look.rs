//! Checks the known shells, once per scan.

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::user::bash::has_option;

use super::folder::{FolderSearch, READS_A_SCAN};
use super::memory::ProcessMemory;
use super::shell::{DisableMethods, Shell};
use super::structure::{self, Shape};
use super::variables::{
    self, FILE, FILE_SIZE, OPTIONS, SIZE, VariableValue, VariableValues, number,
};
use super::words::{ShellGlobal, ShellGlobals};
use super::{
    BUSY_SCANS, GONE_SCANS, HistoryChange, HistoryClearing, HistoryEvent, LISTS_A_SCAN,
    PATTERNS_A_SCAN, READY_SCANS, SEARCH_SCANS, SEARCHES_A_SCAN, ShellHistory, ShellKind,
    TypedCommand, VARIABLES_EVERY_SCANS, WAIT_SCANS, forget, zsh,
};
use crate::detect::{Acceptance, DetectorContext, Finding, Findings};
use crate::page_cache::MachineMemory;
use crate::state::{MachineState, ScanContext};
use crate::time::RealTime;
use panoptes_tables::{HashKey, ScanNumber, Strings};

/// What reporting a shell's finding needs.
pub(super) struct HistoryReporter<'a, 'b> {
    pub(super) cx: &'a ScanContext<'b>,
    state: &'a MachineState,
    out: &'a mut dyn Findings,
}

impl HistoryReporter<'_, '_> {
    /// When the present scan was.
    pub(super) fn now(&self) -> RealTime {
        self.cx.now.real
    }
}

impl ShellHistory {
    /// Reads the words of all shells that the scan has shown, in one batch.
    pub(super) fn read_words(&mut self, machine: &mut MachineMemory<'_>) {
        self.reader.clear();
        let mut memory = ProcessMemory::of(machine, &mut self.reader, PhysicalAddress(0));
        for shell in self.shells.iter().flatten().filter(|shell| shell.seen == self.scan) {
            memory.root = shell.root;
            ShellGlobals::push(&mut memory, &shell.places);
        }
        if memory.reader.is_empty() {
            return;
        }
        memory.run();
        let shells = self.shells.iter_mut().flatten().filter(|shell| shell.seen == self.scan);
        for (at, shell) in shells.enumerate() {
            let words = ShellGlobals::decode(|word| memory.object(at * ShellGlobal::COUNT + word));
            shell.is_changed = words != shell.words;
            shell.words = words;
        }
    }

    /// Reads the lists and variables of shells whose words have changed.
    pub(super) fn read_shells(&mut self, context: &mut DetectorContext<'_>, state: &MachineState) {
        let DetectorContext { memory: machine, cx, out } = context;
        let mut lists_left = LISTS_A_SCAN;
        let mut searches_left = SEARCHES_A_SCAN;
        let mut patterns_left = PATTERNS_A_SCAN;
        let count = self.shells.len();
        let mut output = HistoryReporter { cx, state, out: *out };
        for offset in 0..count {
            // Each scan starts with another shell, so that none waits forever.
            let at = (offset + self.scan.0 as usize) % count;
            let Some(mut shell) = self.shells[at].take() else { continue };
            if self.scan.since(shell.seen) > GONE_SCANS {
                self.shells[at] = Some(shell);
                forget(&mut self.shells, &mut self.strings, at as u32);
                continue;
            }
            if let Some((how, seen)) = shell.owed.take() {
                self.report_clearing(&mut shell, &mut output, how, seen);
            }
            if shell.seen == self.scan && shell.data.is_some() {
                self.check_shape(machine, at, &mut shell, &mut searches_left);
            }
            if shell.seen == self.scan && shell.is_ready() {
                let mut memory = ProcessMemory::of(machine, &mut self.reader, shell.root);
                let due = self.scan.after(at as u32).0.is_multiple_of(VARIABLES_EVERY_SCANS);
                let is_busy = shell.busy_until.is_after(self.scan);
                let mut fresh = DisableMethods::default();
                if shell.is_changed || is_busy || due {
                    fresh = read_variables(&mut shell, &mut memory, &mut patterns_left, self.key);
                }
                shell.judged.try_patterns(&shell.values, &mut patterns_left);
                if shell.is_changed {
                    shell.busy_until = self.scan.after(BUSY_SCANS);
                    // Another line was typed.
                    shell.waits_since = None;
                }
                if shell.is_changed || shell.again || shell.has_waited(self.scan) {
                    shell.again = lists_left == 0;
                    if !shell.again {
                        lists_left -= 1;
                        if shell.kind == ShellKind::Zsh {
                            self.check_ring(machine, at, &mut shell, &mut output);
                        } else {
                            self.check_list(machine, at, &mut shell, &mut output);
                        }
                    }
                }
                self.check_ways(&mut shell, &mut output, fresh);
            }
            self.shells[at] = Some(shell);
        }
    }

    /// Searches for the missing places of a shell that exports nothing, and checks whether it is
    /// ready for input.
    fn check_shape(
        &mut self,
        machine: &mut MachineMemory<'_>,
        at: usize,
        shell: &mut Shell,
        searches_left: &mut u32,
    ) {
        let mut memory = ProcessMemory::of(machine, &mut self.reader, shell.root);
        if !shell.is_ready() {
            read_variables(shell, &mut memory, &mut 0, self.key);
            shell.is_interactive |=
                shell.values[OPTIONS].text().is_some_and(|options| has_option(options, b"history"));
            // This variable is set right before bash reads its history file.
            let is_through = shell.is_interactive && shell.values[FILE_SIZE].text().is_some();
            shell.ready_scans =
                if is_through { (shell.ready_scans + 1).min(READY_SCANS) } else { 0 };
        }
        let is_due = self.scan.after(at as u32).0.is_multiple_of(SEARCH_SCANS);
        let is_missing = shell.places[ShellGlobal::TheHistory as usize] == 0;
        let is_first = shell.ready_scans == READY_SCANS;
        let is_wanted = is_missing && (is_first || shell.is_ready() && is_due);
        if is_wanted && *searches_left == 0 {
            return;
        }
        *searches_left -= u32::from(is_wanted);
        if is_wanted
            && let Some(data) = shell.data
            && let Ok(Shape { history: Some(place), .. }) =
                structure::search(&mut memory, data, &mut self.pointers)
        {
            shell.places[ShellGlobal::TheHistory as usize] = place;
            // The next scan reads its value.
            shell.again = true;
            if is_first {
                return;
            }
        }
        if is_first && (!is_missing || shell.words.pointer(ShellGlobal::Variables).is_some()) {
            // If there is a history file, the list contains all of it now.
            shell.ready_scans = READY_SCANS + 1;
        }
    }

    /// Reports the ways in which a shell has stopped keeping a history. Only ways that this scan
    /// has read count; `fresh` are those whose variables it has read.
    fn check_ways(
        &mut self,
        shell: &mut Shell,
        output: &mut HistoryReporter<'_, '_>,
        fresh: DisableMethods,
    ) {
        let now = DisableMethods::of(&shell.words, &shell.values, &shell.judged);
        let before = shell.ways;
        if now.without(before) != DisableMethods::default() {
            shell.ways_since_ns = output.cx.now.real;
        }
        shell.ways = now;
        shell.reported = shell.reported.and(now.or(before));
        let news = now.and(before).and(fresh).without(shell.reported);
        for way in news.iter() {
            let was_on = shell.was_on.has(way);
            let is_wanted = was_on || way.is_reported_from_the_start(shell.kind);
            let value = way.variable().and_then(|at| shell.values[at].text()).unwrap_or(&[]);
            let change = HistoryChange::Disabled { way, was_on, value };
            let seen = (shell.ways_since_ns, 2);
            if !is_wanted || self.report(shell, output, change, seen) == Acceptance::Yes {
                shell.reported = shell.reported.or(way.into());
            }
        }
        if now != before || now.without(shell.reported) != DisableMethods::default() {
            // A finding needs two scans: a value that was read once and then remembered does not
            // count twice.
            shell.busy_until = self.scan.after(BUSY_SCANS);
        }
        let known = DisableMethods::known(&shell.words, &shell.values, &shell.judged);
        shell.was_on = shell.was_on.or(known.without(now).without(before));
    }

    /// Searches for the folders of shells' history files, as far as one scan may read.
    pub(super) fn search_folders(&mut self, machine: &mut MachineMemory<'_>) {
        let mut left = READS_A_SCAN;
        while left > 0 && self.search_folder(machine, &mut left) {}
    }

    /// Continues a search, or begins one. Returns `false` if there is none.
    fn search_folder(&mut self, machine: &mut MachineMemory<'_>, left: &mut u32) -> bool {
        let count = self.shells.len();
        if self.search.is_none() {
            let mut in_turn = (0..count).map(|offset| (offset + self.scan.0 as usize) % count);
            let found = in_turn.find_map(|at| self.shells[at].as_ref().filter(|it| it.is_open()));
            let Some(shell) = found else { return false };
            let VariableValue::Set(path) = shell.values[FILE] else { return false };
            self.search = Some((shell.process, FolderSearch::new(shell.fs, path)));
        }
        let Some((process, search)) = &mut self.search else { return false };
        let Some(place) = search.go_on(&mut self.reader, machine, left) else { return true };
        let mut shells = self.shells.iter_mut().flatten();
        let of_search = shells.find(|shell| {
            let path = shell.values[FILE].text();
            shell.process == *process && path.is_some_and(|path| search.is_for(path))
        });
        let mut goes_on = true;
        if let Some(shell) = of_search.filter(|shell| shell.is_open()) {
            shell.judged.file.found(place);
            shell.busy_until = self.scan.after(BUSY_SCANS);
            // Another scan has to find the same.
            goes_on = !shell.is_open();
        }
        self.search = None;
        goes_on
    }

    fn report(
        &self,
        shell: &Shell,
        output: &mut HistoryReporter<'_, '_>,
        change: HistoryChange<'_>,
        seen: (RealTime, u32),
    ) -> Acceptance {
        send(output, shell, &self.strings, change, seen)
    }

    /// Reports that a shell's history was cleared. If that is not accepted, the next scan reports
    /// it again.
    pub(super) fn report_clearing(
        &mut self,
        shell: &mut Shell,
        output: &mut HistoryReporter<'_, '_>,
        how: HistoryClearing,
        seen: (RealTime, u32),
    ) {
        if self.report(shell, output, HistoryChange::Cleared(how), seen) == Acceptance::No
            && shell.owed.replace((how, seen)).is_some()
        {
            self.lost.add(1, Some(shell.process.process_id));
        }
    }
}

impl Shell {
    /// Whether it is interactive and has read its history file.
    fn is_ready(&self) -> bool {
        let is_set = |word| self.words.pointer(word).is_some_and(|value| value != 0);
        match self.kind {
            ShellKind::Bash => {}
            // Its startup files are through, and its history file is read, before it asks for a
            // command. Scripts have no ring.
            ShellKind::Zsh => return is_set(ShellGlobal::RING),
            // Before its first prompt, it may still read its history file.
            ShellKind::Python => return is_set(ShellGlobal::PROMPT),
        }
        if self.data.is_some() {
            return self.ready_scans > READY_SCANS;
        }
        self.words.is_set(ShellGlobal::Interactive, false)
            && self.words.is_set(ShellGlobal::Initialized, true)
    }

    /// Whether its history file has to be searched for.
    fn is_open(&self) -> bool {
        self.is_ready() && self.judged.file.is_open(&self.values[FILE])
    }

    /// Whether the wait for more lines of its last command is over.
    pub(super) fn has_waited(&self, scan: ScanNumber) -> bool {
        self.waits_since.is_some_and(|since| scan.since(since) > WAIT_SCANS)
    }

    /// The maximum length of its list, according to `HISTSIZE`.
    pub(super) fn most_by_value(&self) -> Option<i32> {
        self.values[SIZE].text().and_then(number).filter(|&most| most >= 0)
    }

    /// Watches the first and the last entry and the place behind it: without a symbol for the
    /// length, these show changes of the list.
    pub(super) fn watch_entries(&mut self, length: u32) {
        let array = self.words.pointer(ShellGlobal::TheHistory).unwrap_or(0);
        if self.data.is_none() || array == 0 {
            return;
        }
        let entry = |index: u32| array.wrapping_add(u64::from(index) * 8);
        self.places[ShellGlobal::FirstEntry as usize] = entry(0);
        self.places[ShellGlobal::LastEntry as usize] = entry(length.saturating_sub(1));
        self.places[ShellGlobal::NoEntry as usize] = entry(length);
    }
}

pub(super) fn send(
    output: &mut HistoryReporter<'_, '_>,
    shell: &Shell,
    strings: &Strings,
    change: HistoryChange<'_>,
    (since_ns, scans): (RealTime, u32),
) -> Acceptance {
    let process = output.state.process(shell.row);
    let Some(process) = process.filter(|process| process.key == shell.process) else {
        return Acceptance::Yes;
    };
    let last =
        shell.last.map(|last| TypedCommand { line: strings.get(last.line), time_s: last.time_s });
    let process = process.facts(output.cx.strings);
    let event = HistoryEvent { process, kind: shell.kind, change, last, since_ns, scans };
    output.out.found(output.cx, &Finding::ShellHistory(&event))
}

/// Reads a shell's variables. Returns the ways that the values read just now decide.
fn read_variables(
    shell: &mut Shell,
    memory: &mut ProcessMemory<'_>,
    patterns_left: &mut u32,
    key: HashKey,
) -> DisableMethods {
    let values = match shell.kind {
        ShellKind::Bash => {
            let context =
                shell.words.pointer(ShellGlobal::Variables).filter(|&context| context != 0);
            let read = |context| variables::read(memory, context, patterns_left);
            context.map_or_else(VariableValues::default, read)
        }
        ShellKind::Zsh if zsh::is_at_prompt(&shell.words) => {
            zsh::values(memory, &shell.words, patterns_left)
        }
        // A function may have parameters of its own, and Python has none.
        ShellKind::Zsh | ShellKind::Python => return DisableMethods::default(),
    };
    for (at, (kept, value)) in shell.values.iter_mut().zip(values).enumerate() {
        if value != VariableValue::Unknown && *kept != value {
            *kept = value;
            shell.judged.note(at, &value, key);
        }
    }
    DisableMethods::known(&shell.words, &values, &shell.judged)
}
