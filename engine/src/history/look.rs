//! Checks the known shells, once per scan.

use panoptes_decoders::source::MemorySource;
use panoptes_decoders::user::bash::{has_option, wants_more};

use super::changes::{Aligned, Changed, KEPT_MAX, List, Meanwhile, compare};
use super::list;
use super::memory::Memory;
use super::shell::{Cleared, Known, LastCommand, Shell, Ways};
use super::structure::{self, Shape};
use super::variables::{self, CONTROL, FILE_SIZE, OPTIONS, SIZE, Value, Values, number};
use super::words::{Word, Words};
use super::{
    BUSY_SCANS, COMMANDS_A_SCAN, Clearing, Command, Finding, Findings, GONE_SCANS, History,
    LISTS_A_SCAN, READY_SCANS, SEARCH_SCANS, SEARCHES_A_SCAN, TRIES_MAX, TYPED_MAX, UNREAD_MAX,
    VARIABLES_EVERY_SCANS, WAIT_SCANS, What, forget,
};
use crate::state::{ScanContext, State};
use crate::walk::Kernel;

/// What reporting a shell's finding needs.
struct Reporting<'a, 'b> {
    scene: &'a ScanContext<'b>,
    state: &'a State,
    out: &'a mut dyn Findings,
}

impl History {
    /// Reads the words of all shells that the scan has shown, in one batch.
    pub(super) fn read_words<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        self.reader.clear();
        let mut memory = Memory {
            source,
            reader: &mut self.reader,
            space: &kernel.space,
            root: panoptes_decoders::address::PhysicalAddress(0),
        };
        for shell in self.shells.iter().flatten().filter(|shell| shell.seen == self.scan) {
            memory.root = shell.root;
            Words::push(&mut memory, &shell.places);
        }
        if memory.reader.is_empty() {
            return;
        }
        memory.run();
        let shells = self.shells.iter_mut().flatten().filter(|shell| shell.seen == self.scan);
        for (at, shell) in shells.enumerate() {
            let words = Words::decode(|word| memory.object(at * Word::COUNT + word));
            shell.is_changed = words != shell.words;
            shell.words = words;
        }
    }

    /// Reads the lists and variables of shells whose words have changed.
    pub(super) fn read_shells<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        scene: &ScanContext<'_>,
        state: &State,
        out: &mut dyn Findings,
    ) {
        let mut lists_left = LISTS_A_SCAN;
        let mut searches_left = SEARCHES_A_SCAN;
        let count = self.shells.len();
        for offset in 0..count {
            // Each scan starts with another shell, so that none waits forever.
            let at = (offset + self.scan as usize) % count;
            let Some(mut shell) = self.shells[at].take() else { continue };
            if self.scan.wrapping_sub(shell.seen) > GONE_SCANS {
                self.shells[at] = Some(shell);
                forget(&mut self.shells, &mut self.strings, at as u32);
                continue;
            }
            if shell.seen == self.scan && shell.data.is_some() {
                self.check_shape(source, kernel, at, &mut shell, &mut searches_left);
            }
            if shell.seen == self.scan && shell.is_ready() {
                let reader = &mut self.reader;
                let mut memory =
                    Memory { source: &mut *source, reader, space: &kernel.space, root: shell.root };
                let due = self.scan.wrapping_add(at as u32).is_multiple_of(VARIABLES_EVERY_SCANS);
                let is_busy = shell.busy_until.wrapping_sub(self.scan) as i32 > 0;
                let mut fresh = Ways::default();
                if shell.is_changed || is_busy || due {
                    fresh = read_variables(&mut shell, &mut memory);
                }
                if shell.is_changed {
                    shell.busy_until = self.scan.wrapping_add(BUSY_SCANS);
                    // Another line was typed.
                    shell.waits_since = None;
                }
                let mut output = Reporting { scene, state, out: &mut *out };
                if shell.is_changed || shell.again || shell.has_waited(self.scan) {
                    shell.again = lists_left == 0;
                    if !shell.again {
                        lists_left -= 1;
                        self.check_list(source, kernel, at, &mut shell, &mut output);
                    }
                }
                self.check_ways(&mut shell, &mut output, fresh);
            }
            self.shells[at] = Some(shell);
        }
    }

    /// Reads a shell's list and reports how it has changed.
    fn check_list<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        at: usize,
        shell: &mut Shell,
        output: &mut Reporting<'_, '_>,
    ) {
        let reader = &mut self.reader;
        let mut memory = Memory { source, reader, space: &kernel.space, root: shell.root };
        let words = shell.words;
        let is_unread = shell.places[Word::TheHistory as usize] != 0
            && words.pointer(Word::TheHistory).is_none();
        if is_unread {
            shell.again = true;
            return;
        }
        let is_counted = shell.data.is_some();
        let Some(mut length) =
            list::read(&mut memory, &words, (self.key, is_counted), &mut self.list)
        else {
            // The list is being changed right now.
            shell.unread = shell.unread.saturating_add(1);
            shell.again = shell.unread < UNREAD_MAX;
            if shell.unread == UNREAD_MAX {
                self.refused += 1;
                shell.waits_since = None;
            }
            return;
        };
        shell.unread = 0;
        // A command whose lines are still being read counts when all of them are there.
        let lines = words.lines_begun();
        let place = at * KEPT_MAX;
        let last_known = shell.known.map(|known| {
            known.keys.checked_sub(1).and_then(|last| self.keys.get(place + last)).copied()
        });
        match last_known {
            // The list may or may not contain the command already.
            None if lines > 0 => {
                shell.again = true;
                return;
            }
            Some(last) if lines > 0 && self.list.keys.last().copied() != last => {
                self.list.keys.pop();
                length = length.saturating_sub(1);
            }
            _ => {}
        }
        shell.watch_entries(length);
        let most = words.int(Word::MaxEntries).or_else(|| shell.most_by_value());
        let base = words.int(Word::Base);
        let room = &mut self.keys[place..place + KEPT_MAX];
        let new = List { length, base, most, keys: &self.list.keys };
        let commands = words.int(Word::CommandNumber);
        // The number of new commands at the end of the list, and how many of these are reported,
        // beginning with the first new one.
        let (added, reported_max, cleared) = match &shell.known {
            None => {
                let typed =
                    words.int(Word::SessionLines).and_then(|typed| usize::try_from(typed).ok());
                let typed = typed.unwrap_or(0);
                let added = if shell.is_new { typed.min(self.list.keys.len()) } else { 0 };
                (added, added, None)
            }
            Some(known) => {
                let keys = &room[..known.keys];
                let old = List { length: known.length, base: known.base, most: known.most, keys };
                let replaces = shell.values[CONTROL].text().is_some_and(|control| {
                    control.split(|&byte| byte == b':').any(|word| word == b"erasedups")
                });
                let run = commands.zip(known.commands).map(|(new, old)| new.wrapping_sub(old));
                let run = run.and_then(|run| usize::try_from(run).ok());
                let aligned = Aligned::of(old.keys, new.keys);
                let is_same_text = aligned.in_place_of_last(&new).is_some_and(|index| {
                    let last = shell.last.map(|last| self.strings.get(last.line));
                    let mut is_same = false;
                    let (limit, text) = (self.text_bytes, &mut self.text);
                    let one = index..index + 1;
                    list::texts(&mut memory, &self.list, one, limit, text, |line, _| {
                        is_same = Some(line) == last;
                    });
                    is_same
                });
                let has_no_size = shell.values[SIZE].text().and_then(number) == Some(0);
                let meanwhile = Meanwhile { replaces, has_no_size, run, is_same_text };
                let Changed { added, cleared } = compare(&old, &new, &aligned, &meanwhile);
                let lines = known.lines.max(words.begun_or_run()).max(1) as usize;
                let typed = run.unwrap_or(TYPED_MAX) + lines;
                let is_as_long = new.length >= old.length || new.is_full();
                match cleared {
                    // A list that was replaced and is as long as before was read from the file
                    // again (`history -c; history -r`). The commands that were typed last are at
                    // its end.
                    Some(Clearing::All { .. }) if added > typed && is_as_long => {
                        let added = run.unwrap_or(TYPED_MAX).min(added);
                        (added, added, None)
                    }
                    Some(Clearing::All { .. }) if added > typed => (added, 0, cleared),
                    // Commands beyond the number that can have been typed were read from a file
                    // (`history -r`). They follow the typed ones.
                    _ if added > typed => (added, run.unwrap_or(0).min(added), cleared),
                    _ => (added, added, cleared),
                }
            }
        };
        let known_scans = if let Some(how) = cleared {
            let Some(before) = shell.cleared else {
                shell.cleared = Some(Cleared { since_ns: output.scene.now_ns });
                shell.again = true;
                return;
            };
            Some((how, before))
        } else {
            shell.cleared = None;
            None
        };
        if let Some((how, before)) = known_scans
            && !matches!(how, Clearing::Some { .. })
        {
            self.report(shell, output, What::Cleared(how), (before.since_ns, 2));
        }
        let end = self.list.keys.len();
        let reported_end = end - added + reported_max;
        let reader = &mut self.reader;
        let mut memory = Memory { source, reader, space: &kernel.space, root: shell.root };
        let may_wait = shell.data.is_some() && !shell.has_waited(self.scan);
        let mut is_waiting = false;
        let reported_to = {
            let mut first = end - added;
            let most = first + reported_max.min(COMMANDS_A_SCAN);
            while first < most {
                // Each command is reported as its text is read.
                let mut waits = false;
                let mut left = most - first;
                let (limit, text) = (self.text_bytes, &mut self.text);
                let strings = &mut self.strings;
                let read = list::texts(
                    &mut memory,
                    &self.list,
                    first..most,
                    limit,
                    text,
                    |line, time_s| {
                        left -= 1;
                        // Without a symbol for that, the text itself must show whether the command
                        // is complete.
                        waits = left == 0 && most == end && may_wait && wants_more(line);
                        if waits {
                            return;
                        }
                        let command = Command { line, time_s };
                        keep_last(strings, shell, &command);
                        send(
                            output,
                            shell,
                            &*strings,
                            What::Executed(command),
                            (output.scene.now_ns, 1),
                        );
                    },
                );
                if waits {
                    // The complete command will be a new entry.
                    is_waiting = true;
                    first += read - 1;
                    break;
                }
                if read == 0 {
                    break;
                }
                first += read;
            }
            first
        };
        let is_behind = reported_to < reported_end && reported_max > 0 && !is_waiting;
        shell.waits_since = is_waiting.then(|| shell.waits_since.unwrap_or(self.scan));
        shell.tries = if is_behind && reported_to == end - added { shell.tries + 1 } else { 0 };
        let keys = if is_behind && shell.tries >= TRIES_MAX {
            // An unreadable command must not block those behind it.
            shell.tries = 0;
            self.refused += 1;
            reported_to + 1
        } else if is_behind || is_waiting {
            reported_to
        } else {
            end
        };
        // Commands that were not reported yet are new in the next scan.
        let is_behind = is_behind && keys < end;
        shell.again = is_behind;
        if let Some((how @ Clearing::Some { .. }, before)) = known_scans {
            self.report(shell, output, What::Cleared(how), (before.since_ns, 2));
        }
        shell.cleared = None;
        let room = &mut self.keys[place..place + KEPT_MAX];
        room[..keys].copy_from_slice(&self.list.keys[..keys]);
        // The next scan compares them with the same counters, too.
        let before = shell.known.filter(|_| is_behind);
        // At the first check, as many commands count as run as are reported.
        let commands = if is_behind && before.is_none() {
            commands.map(|run| run.wrapping_sub(added as i32))
        } else {
            commands
        };
        shell.known = Some(Known {
            length: length - (end - keys) as u32,
            base,
            most,
            keys,
            commands: before.map_or(commands, |before| before.commands),
            lines: before.map_or(lines, |before| before.lines),
        });
    }

    /// Searches for the missing places of a shell that exports nothing, and checks whether it is
    /// ready for input.
    fn check_shape<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        at: usize,
        shell: &mut Shell,
        searches_left: &mut u32,
    ) {
        let reader = &mut self.reader;
        let mut memory =
            Memory { source: &mut *source, reader, space: &kernel.space, root: shell.root };
        if !shell.is_ready() {
            read_variables(shell, &mut memory);
            shell.is_interactive |=
                shell.values[OPTIONS].text().is_some_and(|options| has_option(options, b"history"));
            // This variable is set right before bash reads its history file.
            let is_through = shell.is_interactive && shell.values[FILE_SIZE].text().is_some();
            shell.ready_scans =
                if is_through { (shell.ready_scans + 1).min(READY_SCANS) } else { 0 };
        }
        let is_due = self.scan.wrapping_add(at as u32).is_multiple_of(SEARCH_SCANS);
        let is_missing = shell.places[Word::TheHistory as usize] == 0;
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
            shell.places[Word::TheHistory as usize] = place;
            // The next scan reads its value.
            shell.again = true;
            if is_first {
                return;
            }
        }
        if is_first && (!is_missing || shell.words.pointer(Word::Variables).is_some()) {
            // If there is a history file, the list contains all of it now.
            shell.ready_scans = READY_SCANS + 1;
        }
    }

    /// Reports the ways in which a shell has stopped keeping a history. Only ways that this scan
    /// has read count; `fresh` are those whose variables it has read.
    fn check_ways(&mut self, shell: &mut Shell, output: &mut Reporting<'_, '_>, fresh: Ways) {
        let now = Ways::of(&shell.words, &shell.values);
        let before = shell.ways;
        if now.without(before) != Ways::default() {
            shell.ways_since_ns = output.scene.now_ns;
        }
        shell.ways = now;
        shell.reported = shell.reported.and(now.or(before));
        let news = now.and(before).and(fresh).without(shell.reported);
        shell.reported = shell.reported.or(news);
        if now != before || now.without(shell.reported) != Ways::default() {
            // A finding needs two scans: a value that was read once and then remembered does not
            // count twice.
            shell.busy_until = self.scan.wrapping_add(BUSY_SCANS);
        }
        for way in news.iter() {
            let was_on = shell.was_on.has(way);
            if !was_on && !way.is_reported_from_the_start() {
                continue;
            }
            let since = shell.ways_since_ns;
            self.report(shell, output, What::Disabled { way, was_on }, (since, 2));
        }
        let known = Ways::known(&shell.words, &shell.values);
        shell.was_on = shell.was_on.or(known.without(now).without(before));
    }

    fn report(
        &self,
        shell: &Shell,
        output: &mut Reporting<'_, '_>,
        what: What<'_>,
        seen: (i64, u32),
    ) {
        send(output, shell, &self.strings, what, seen);
    }
}

impl Shell {
    /// Whether it is interactive and has read its history file.
    fn is_ready(&self) -> bool {
        if self.data.is_some() {
            return self.ready_scans > READY_SCANS;
        }
        self.words.is_set(Word::Interactive, false) && self.words.is_set(Word::Initialized, true)
    }

    /// Whether the wait for more lines of its last command is over.
    fn has_waited(&self, scan: u32) -> bool {
        self.waits_since.is_some_and(|since| scan.wrapping_sub(since) > WAIT_SCANS)
    }

    /// The maximum length of its list, according to `HISTSIZE`.
    fn most_by_value(&self) -> Option<i32> {
        let most = self.values[SIZE].text().and_then(number)?;
        i32::try_from(most).ok().filter(|&most| most >= 0)
    }

    /// Watches the first and the last entry and the place behind it: without a symbol for the
    /// length, these show changes of the list.
    fn watch_entries(&mut self, length: u32) {
        let array = self.words.pointer(Word::TheHistory).unwrap_or(0);
        if self.data.is_none() || array == 0 {
            return;
        }
        let entry = |index: u32| array.wrapping_add(u64::from(index) * 8);
        self.places[Word::FirstEntry as usize] = entry(0);
        self.places[Word::LastEntry as usize] = entry(length.saturating_sub(1));
        self.places[Word::NoEntry as usize] = entry(length);
    }
}

fn send(
    output: &mut Reporting<'_, '_>,
    shell: &Shell,
    strings: &panoptes_tables::Strings,
    what: What<'_>,
    (since_ns, scans): (i64, u32),
) {
    let Some(process) = output.state.process(shell.row) else { return };
    if process.key != shell.process {
        return;
    }
    let last = shell.last.map(|last| Command { line: strings.get(last.line), time_s: last.time_s });
    let process = process.facts(output.scene.strings);
    let finding = Finding { process, what, last, since_ns, scans };
    output.out.found(output.scene, &finding);
}

/// Keeps the last command: records of alerts contain it.
fn keep_last(strings: &mut panoptes_tables::Strings, shell: &mut Shell, command: &Command<'_>) {
    if let Some(last) = shell.last.take() {
        strings.release(last.line);
    }
    shell.last =
        strings.intern(command.line).map(|line| LastCommand { line, time_s: command.time_s });
}

/// Reads a shell's variables. Returns the ways that the values read just now decide.
fn read_variables<S: MemorySource>(shell: &mut Shell, memory: &mut Memory<'_, S>) -> Ways {
    let context = shell.words.pointer(Word::Variables).filter(|&context| context != 0);
    let values = context.map_or_else(Values::default, |context| variables::read(memory, context));
    for (kept, value) in shell.values.iter_mut().zip(values) {
        if value != Value::Unknown {
            *kept = value;
        }
    }
    Ways::known(&shell.words, &values)
}
