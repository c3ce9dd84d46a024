//! One scan's look at the shells that are known.

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
use crate::state::{Scene, State};
use crate::walk::Kernel;

/// Where a shell's list stands, and what is said of it.
struct Telling<'a, 'b> {
    scene: &'a Scene<'b>,
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

    /// Looks closer at those shells of which something has changed.
    pub(super) fn read_shells<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        scene: &Scene<'_>,
        state: &State,
        out: &mut dyn Findings,
    ) {
        let mut lists_left = LISTS_A_SCAN;
        let mut searches_left = SEARCHES_A_SCAN;
        let count = self.shells.len();
        for offset in 0..count {
            // Another begins in each scan, so that none waits forever.
            let at = (offset + self.scan as usize) % count;
            let Some(mut shell) = self.shells[at].take() else { continue };
            if self.scan.wrapping_sub(shell.seen) > GONE_SCANS {
                self.shells[at] = Some(shell);
                forget(&mut self.shells, &mut self.strings, at as u32);
                continue;
            }
            if shell.seen == self.scan && shell.data.is_some() {
                self.look_at_shape(source, kernel, at, &mut shell, &mut searches_left);
            }
            if shell.seen == self.scan && shell.is_ready() {
                let reader = &mut self.reader;
                let mut memory =
                    Memory { source: &mut *source, reader, space: &kernel.space, root: shell.root };
                let due = self.scan.wrapping_add(at as u32).is_multiple_of(VARIABLES_EVERY_SCANS);
                let is_busy = shell.busy_until.wrapping_sub(self.scan) as i32 > 0;
                let mut fresh = Ways::default();
                if shell.is_changed || is_busy || due {
                    fresh = look_at_variables(&mut shell, &mut memory);
                }
                if shell.is_changed {
                    shell.busy_until = self.scan.wrapping_add(BUSY_SCANS);
                    // Another line came.
                    shell.waits_since = None;
                }
                let mut telling = Telling { scene, state, out: &mut *out };
                if shell.is_changed || shell.again || shell.has_waited(self.scan) {
                    shell.again = lists_left == 0;
                    if !shell.again {
                        lists_left -= 1;
                        self.look_at_list(source, kernel, at, &mut shell, &mut telling);
                    }
                }
                self.judge_ways(&mut shell, &mut telling, fresh);
            }
            self.shells[at] = Some(shell);
        }
    }

    /// Reads a shell's list and tells of what became of it.
    fn look_at_list<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        at: usize,
        shell: &mut Shell,
        telling: &mut Telling<'_, '_>,
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
            // It is being changed just now.
            shell.unread = shell.unread.saturating_add(1);
            shell.again = shell.unread < UNREAD_MAX;
            if shell.unread == UNREAD_MAX {
                self.refused += 1;
                shell.waits_since = None;
            }
            return;
        };
        shell.unread = 0;
        // A command whose lines are still being read counts when all are there.
        let lines = words.lines_begun();
        let place = at * KEPT_MAX;
        let last_known = shell.known.map(|known| {
            known.keys.checked_sub(1).and_then(|last| self.keys.get(place + last)).copied()
        });
        match last_known {
            // It may be in the list already, or may not.
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
        // How many of the last are new, and how many of these are told of, the first of them.
        let (added, told_max, cleared) = match &shell.known {
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
                    // What is all another and yet as long was read from the file once more (`history -c; history -r`): at its end
                    // is what was typed last.
                    Some(Clearing::All { .. }) if added > typed && is_as_long => {
                        let added = run.unwrap_or(TYPED_MAX).min(added);
                        (added, added, None)
                    }
                    Some(Clearing::All { .. }) if added > typed => (added, 0, cleared),
                    // More than can have been typed was read from a file (`history -r`), behind what was typed.
                    _ if added > typed => (added, run.unwrap_or(0).min(added), cleared),
                    _ => (added, added, cleared),
                }
            }
        };
        let known_scans = if let Some(how) = cleared {
            let Some(before) = shell.cleared else {
                shell.cleared = Some(Cleared { since_ns: telling.scene.now_ns });
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
            self.tell(shell, telling, What::Cleared(how), (before.since_ns, 2));
        }
        let end = self.list.keys.len();
        let told_end = end - added + told_max;
        let reader = &mut self.reader;
        let mut memory = Memory { source, reader, space: &kernel.space, root: shell.root };
        let may_wait = shell.data.is_some() && !shell.has_waited(self.scan);
        let mut is_waiting = false;
        let told = {
            let mut first = end - added;
            let most = first + told_max.min(COMMANDS_A_SCAN);
            while first < most {
                // Each text is told of as it is read.
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
                        // Where no symbol says whether it is all there, its text must.
                        waits = left == 0 && most == end && may_wait && wants_more(line);
                        if waits {
                            return;
                        }
                        let command = Command { line, time_s };
                        keep_last(strings, shell, &command);
                        say(
                            telling,
                            shell,
                            &*strings,
                            What::Executed(command),
                            (telling.scene.now_ns, 1),
                        );
                    },
                );
                if waits {
                    // What comes of it is an entry of its own.
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
        let is_behind = told < told_end && told_max > 0 && !is_waiting;
        shell.waits_since = is_waiting.then(|| shell.waits_since.unwrap_or(self.scan));
        shell.tries = if is_behind && told == end - added { shell.tries + 1 } else { 0 };
        let keys = if is_behind && shell.tries >= TRIES_MAX {
            // One that cannot be read does not take those behind it along.
            shell.tries = 0;
            self.refused += 1;
            told + 1
        } else if is_behind || is_waiting {
            told
        } else {
            end
        };
        // What was not told yet is new in the next scan.
        let is_behind = is_behind && keys < end;
        shell.again = is_behind;
        if let Some((how @ Clearing::Some { .. }, before)) = known_scans {
            self.tell(shell, telling, What::Cleared(how), (before.since_ns, 2));
        }
        shell.cleared = None;
        let room = &mut self.keys[place..place + KEPT_MAX];
        room[..keys].copy_from_slice(&self.list.keys[..keys]);
        // Against what they are compared with, too.
        let before = shell.known.filter(|_| is_behind);
        // At the first look as many were run as are told of.
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

    /// Looks for what is not known yet of a shell that exports nothing, and whether it is ready to be typed into.
    fn look_at_shape<S: MemorySource>(
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
            look_at_variables(shell, &mut memory);
            shell.is_interactive |=
                shell.values[OPTIONS].text().is_some_and(|options| has_option(options, b"history"));
            // It is set right before the file is read.
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
            // Its value comes with the next scan.
            shell.again = true;
            if is_first {
                return;
            }
        }
        if is_first && (!is_missing || shell.words.pointer(Word::Variables).is_some()) {
            // All that its file had is in the list, if it has one.
            shell.ready_scans = READY_SCANS + 1;
        }
    }

    /// Tells of the ways in which a shell keeps no history any more.
    /// Those count that were read in this scan: `fresh` are
    /// those whose variables were.
    fn judge_ways(&mut self, shell: &mut Shell, telling: &mut Telling<'_, '_>, fresh: Ways) {
        let now = Ways::of(&shell.words, &shell.values);
        let before = shell.ways;
        if now.without(before) != Ways::default() {
            shell.ways_since_ns = telling.scene.now_ns;
        }
        shell.ways = now;
        shell.told = shell.told.and(now.or(before));
        let news = now.and(before).and(fresh).without(shell.told);
        shell.told = shell.told.or(news);
        if now != before || now.without(shell.told) != Ways::default() {
            // What is remembered from one look is not what two have shown.
            shell.busy_until = self.scan.wrapping_add(BUSY_SCANS);
        }
        for way in news.iter() {
            let was_on = shell.was_on.has(way);
            if !was_on && !way.is_told_from_the_start() {
                continue;
            }
            let since = shell.ways_since_ns;
            self.tell(shell, telling, What::Disabled { way, was_on }, (since, 2));
        }
        let known = Ways::known(&shell.words, &shell.values);
        shell.was_on = shell.was_on.or(known.without(now).without(before));
    }

    fn tell(&self, shell: &Shell, telling: &mut Telling<'_, '_>, what: What<'_>, seen: (i64, u32)) {
        say(telling, shell, &self.strings, what, seen);
    }
}

impl Shell {
    /// Whether somebody types into it, and it has read its history's file.
    fn is_ready(&self) -> bool {
        if self.data.is_some() {
            return self.ready_scans > READY_SCANS;
        }
        self.words.is_set(Word::Interactive, false) && self.words.is_set(Word::Initialized, true)
    }

    /// Whether it was waited long enough for more lines of its last command.
    fn has_waited(&self, scan: u32) -> bool {
        self.waits_since.is_some_and(|since| scan.wrapping_sub(since) > WAIT_SCANS)
    }

    /// How many commands it may remember, by its variable.
    fn most_by_value(&self) -> Option<i32> {
        let most = self.values[SIZE].text().and_then(number)?;
        i32::try_from(most).ok().filter(|&most| most >= 0)
    }

    /// Where no symbol says how long the list is, its first and last entry and what is behind that show what becomes of it.
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

fn say(
    telling: &mut Telling<'_, '_>,
    shell: &Shell,
    strings: &crate::state::strings::Strings,
    what: What<'_>,
    (since_ns, scans): (i64, u32),
) {
    let Some(process) = telling.state.process(shell.row) else { return };
    if process.key != shell.process {
        return;
    }
    let last = shell.last.map(|last| Command { line: strings.get(last.line), time_s: last.time_s });
    let process = process.facts(telling.scene.strings);
    let finding = Finding { process, what, last, since_ns, scans };
    telling.out.found(telling.scene, &finding);
}

/// Keeps the last command, by which alerts say what came before them.
fn keep_last(
    strings: &mut crate::state::strings::Strings,
    shell: &mut Shell,
    command: &Command<'_>,
) {
    if let Some(last) = shell.last.take() {
        strings.release(last.line);
    }
    shell.last =
        strings.intern(command.line).map(|line| LastCommand { line, time_s: command.time_s });
}

/// Reads a shell's variables; gives the ways of which what was read just now says whether they hold.
fn look_at_variables<S: MemorySource>(shell: &mut Shell, memory: &mut Memory<'_, S>) -> Ways {
    let context = shell.words.pointer(Word::Variables).filter(|&context| context != 0);
    let values = context.map_or_else(Values::default, |context| variables::read(memory, context));
    for (kept, value) in shell.values.iter_mut().zip(values) {
        if value != Value::Unknown {
            *kept = value;
        }
    }
    Ways::known(&shell.words, &values)
}
