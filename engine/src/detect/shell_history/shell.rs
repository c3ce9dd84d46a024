//! One shell: its last known state, and the ways in which its history is off.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::user::bash::{has_option, ignores_spaces};
use panoptes_decoders::user::bash_patterns::ignores_everything;

use super::changes::HistoryClearing;
use super::history_file::HistoryFile;
use super::history_path::HistoryFilePlace;
use super::variables::{
    CONTROL, FILE, FILE_SIZE, IGNORE, MORE_OPTIONS, OPTIONS, SIZE, VariableValue, VariableValues,
    number,
};
use super::words::{ShellGlobal, ShellGlobals};
use super::{BUSY_SCANS, ShellKind};
use crate::state::process::ProcessKey;
use crate::time::RealTime;
use panoptes_tables::{HashKey, RowId, ScanNumber, StringId};

/// How a shell keeps no history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DisableMethod {
    /// `set +o history`
    Off,
    /// `HISTFILE` is unset or empty: the history ends with the shell.
    NoFile,
    /// `HISTFILE` is a device that drops or refuses all data: /dev/null, /dev/zero, /dev/full.
    NullFile,
    /// `HISTFILE` is below /dev, /proc or /sys, but not below /dev/shm.
    SpecialFile,
    /// `HISTFILE` is a folder, a FIFO or another device, or no path can be so long.
    NotAFile,
    /// `HISTFILE` is in a folder that does not exist. Users without a home have that from the
    /// start, so it is reported only if it was changed.
    NoFolder,
    /// `HISTFILE` was changed to a place outside the folder in which it was, or to one of which the
    /// kernel has no name in memory.
    Elsewhere,
    /// `HISTSIZE` is 0: not even the list is kept.
    NoSize,
    /// `HISTFILESIZE` is 0: the file is emptied.
    NoFileSize,
    /// The patterns of `HISTIGNORE` match nearly every command.
    Ignored,
    /// `HISTCONTROL` excludes commands that begin with a space. That is a common default, and is
    /// reported only if it was changed.
    Spaces,
}

impl DisableMethod {
    pub(super) const ALL: [Self; 11] = [
        Self::Off,
        Self::NoFile,
        Self::NullFile,
        Self::SpecialFile,
        Self::NotAFile,
        Self::NoFolder,
        Self::Elsewhere,
        Self::NoSize,
        Self::NoFileSize,
        Self::Ignored,
        Self::Spaces,
    ];

    /// Index of the variable that decides it.
    pub(super) const fn variable(self) -> Option<usize> {
        match self {
            Self::Off => None,
            Self::NoFile
            | Self::NullFile
            | Self::SpecialFile
            | Self::NotAFile
            | Self::NoFolder
            | Self::Elsewhere => Some(FILE),
            Self::NoSize => Some(SIZE),
            Self::NoFileSize => Some(FILE_SIZE),
            Self::Ignored => Some(IGNORE),
            Self::Spaces => Some(CONTROL),
        }
    }

    /// Whether the value of `HISTFILE` shows it.
    pub const fn names_file(self) -> bool {
        matches!(self.variable(), Some(FILE))
    }

    /// Whether it is reported even if the history never was on. Without a configuration, zsh has no
    /// file and saves no commands.
    pub(super) const fn is_reported_from_the_start(self, kind: ShellKind) -> bool {
        match self {
            Self::Spaces | Self::NoFolder | Self::Elsewhere => false,
            Self::NoFile | Self::NoFileSize => !matches!(kind, ShellKind::Zsh),
            _ => true,
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// A set of ways.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct DisableMethods(u16);

impl From<DisableMethod> for DisableMethods {
    fn from(way: DisableMethod) -> Self {
        Self(way.bit())
    }
}

impl DisableMethods {
    /// The ways in which a shell keeps no history. Unknown ones are left out.
    pub(super) fn of(
        words: &ShellGlobals,
        values: &VariableValues,
        judged: &JudgedVariables,
    ) -> Self {
        let file = &values[FILE];
        let place = judged.file.place;
        let mut ways = Self::default();
        for (way, holds) in [
            (DisableMethod::Off, is_off(words, values) == Some(true)),
            (DisableMethod::NoFile, *file == VariableValue::Unset || file.text() == Some(b"")),
            (DisableMethod::NullFile, place == HistoryFilePlace::Null),
            (DisableMethod::SpecialFile, place == HistoryFilePlace::Special),
            (DisableMethod::NotAFile, place == HistoryFilePlace::NoFile),
            (DisableMethod::NoFolder, place == HistoryFilePlace::NoFolder),
            (DisableMethod::Elsewhere, judged.file.is_elsewhere()),
            (DisableMethod::NoSize, is_zero(&values[SIZE])),
            (DisableMethod::NoFileSize, is_zero(&values[FILE_SIZE])),
            (DisableMethod::Ignored, judged.ignores_everything == Some(true)),
            (DisableMethod::Spaces, ignores_leading_spaces(&values[CONTROL])),
        ] {
            ways.0 |= if holds { way.bit() } else { 0 };
        }
        ways
    }

    /// The ways whose state is known.
    pub(super) fn known(
        words: &ShellGlobals,
        values: &VariableValues,
        judged: &JudgedVariables,
    ) -> Self {
        let mut ways = Self::default();
        for way in DisableMethod::ALL {
            let is_judged = match way {
                DisableMethod::NotAFile | DisableMethod::NoFolder | DisableMethod::Elsewhere => {
                    !judged.file.is_open(&values[FILE])
                }
                DisableMethod::Ignored => judged.ignores_everything.is_some(),
                _ => true,
            };
            let is_known = match way.variable() {
                Some(at) => values[at] != VariableValue::Unknown && is_judged,
                None => is_off(words, values).is_some(),
            };
            ways.0 |= if is_known { way.bit() } else { 0 };
        }
        ways
    }

    pub(super) fn iter(self) -> impl Iterator<Item = DisableMethod> {
        DisableMethod::ALL.into_iter().filter(move |way| self.has(*way))
    }

    pub(super) const fn has(self, way: DisableMethod) -> bool {
        self.0 & way.bit() != 0
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Whether a shell's history is off, if known: by the variable or, without a symbol for it, by
/// `SHELLOPTS`.
fn is_off(words: &ShellGlobals, values: &VariableValues) -> Option<bool> {
    let by_word = words.int(ShellGlobal::Enabled).map(|enabled| enabled == 0);
    by_word.or_else(|| match &values[OPTIONS] {
        VariableValue::Set(text) => Some(!has_option(text.bytes(), b"history")),
        VariableValue::Long(has_it) => Some(!has_it),
        VariableValue::Unset | VariableValue::Unknown => None,
    })
}

/// Whether a size is 0.
fn is_zero(size: &VariableValue) -> bool {
    *size == VariableValue::Long(true) || size.text().and_then(number) == Some(0)
}

fn ignores_leading_spaces(control: &VariableValue) -> bool {
    *control == VariableValue::Long(true) || control.text().is_some_and(ignores_spaces)
}

/// What the values of a shell's variables mean, where that takes more than a look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JudgedVariables {
    pub(super) file: HistoryFile,
    /// Whether `HISTIGNORE` matches nearly every command; `None` until that was tried.
    pub(super) ignores_everything: Option<bool>,
}

impl JudgedVariables {
    /// Notes that the variable with this index has another value than before.
    pub(super) fn note(&mut self, at: usize, value: &VariableValue, key: HashKey) {
        match at {
            FILE => self.file.set(value, key),
            IGNORE | MORE_OPTIONS => self.ignores_everything = None,
            _ => {}
        }
    }

    /// Tries the patterns of `HISTIGNORE`, unless that was done. `left` is the number of values
    /// that may be tried: one less after this.
    pub(super) fn try_patterns(&mut self, values: &VariableValues, left: &mut u32) {
        if self.ignores_everything.is_some() {
            return;
        }
        self.ignores_everything = match &values[IGNORE] {
            VariableValue::Unknown => None,
            VariableValue::Unset => Some(false),
            VariableValue::Long(ignores) => Some(*ignores),
            VariableValue::Set(_) if *left == 0 => None,
            VariableValue::Set(text) => {
                *left -= 1;
                let has_extglob = match &values[MORE_OPTIONS] {
                    VariableValue::Set(options) => has_option(options.bytes(), b"extglob"),
                    VariableValue::Long(has_it) => *has_it,
                    VariableValue::Unset | VariableValue::Unknown => false,
                };
                Some(ignores_everything(text.bytes(), has_extglob))
            }
        };
    }
}

/// How a list was cleared, since when that was seen, and in how many scans.
pub(super) type SeenClearing = (HistoryClearing, (RealTime, u32));

/// A cleared list that only one scan has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnconfirmedClearing {
    pub(super) since_ns: RealTime,
}

/// A finding that the next scan has to show as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FirstSight;

/// The list as it was last read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KnownHistoryList {
    pub(super) length: u32,
    pub(super) base: Option<i32>,
    pub(super) most: Option<i32>,
    /// Number of its keys that are kept.
    pub(super) keys: u32,
    /// A number for the prompt of a Python; 0 if there is none.
    pub(super) prompt: u32,
    /// Number of commands that had been run.
    pub(super) commands: Option<i32>,
    /// Number of lines of a command that had been read; in Python, of its last history file.
    pub(super) lines: u32,
}

/// The last command that was typed.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastCommand {
    pub(super) line: StringId,
    pub(super) time_s: Option<i64>,
}

/// One shell.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing known by itself")]
pub(super) struct Shell {
    pub(super) row: RowId,
    pub(super) process: ProcessKey,
    /// Owner of the shell ([`crate::walk::Snapshot::group_of`]).
    pub(super) group: u64,
    pub(super) kind: ShellKind,
    pub(super) places: [u64; ShellGlobal::COUNT],
    /// Address and length of its data, if it was recognised by shape.
    pub(super) data: Option<(u64, u64)>,
    /// Whether it was seen to be interactive, and in how many scans it was ready for input.
    pub(super) is_interactive: bool,
    pub(super) ready_scans: u8,
    /// Whether commands typed before it was watched are reported.
    pub(super) is_new: bool,
    /// The scan that last showed it, and its top page table then.
    pub(super) seen: ScanNumber,
    pub(super) root: PhysicalAddress,
    /// `struct fs_struct *`
    pub(super) fs: KernelVa,
    pub(super) words: ShellGlobals,
    /// Whether the words differ from those of the scan before.
    pub(super) is_changed: bool,
    /// The list, once it was read.
    pub(super) known: Option<KnownHistoryList>,
    /// Whether the next scan reads the list even if the words are unchanged.
    pub(super) again: bool,
    /// Number of consecutive scans in which a command could not be read.
    pub(super) tries: u8,
    /// Number of consecutive scans in which its list could not be read.
    pub(super) unread: u8,
    /// The scan since which its last command waits because its text seems unfinished.
    pub(super) waits_since: Option<ScanNumber>,
    /// The scan until which its variables are read in each.
    pub(super) busy_until: ScanNumber,
    pub(super) values: VariableValues,
    pub(super) judged: JudgedVariables,
    /// How its history was off in the last scan, since when, and what was reported of that.
    pub(super) ways: DisableMethods,
    pub(super) ways_since_ns: RealTime,
    pub(super) reported: DisableMethods,
    /// The ways of which a scan has shown that they did not hold.
    pub(super) was_on: DisableMethods,
    pub(super) cleared: Option<UnconfirmedClearing>,
    /// Whether its list was replaced, so that the one before may come back.
    pub(super) was_put_aside: bool,
    /// A clearing whose report was not accepted, and when and how often it was seen.
    pub(super) owed: Option<SeenClearing>,
    pub(super) last: Option<LastCommand>,
}

impl Shell {
    /// A shell that is seen first in this scan, and of which nothing is known.
    pub(super) fn new(row: RowId, process: ProcessKey, group: u64, scan: ScanNumber) -> Self {
        Self {
            row,
            process,
            group,
            kind: ShellKind::default(),
            places: [0; ShellGlobal::COUNT],
            data: None,
            is_interactive: false,
            ready_scans: 0,
            is_new: false,
            seen: scan,
            root: PhysicalAddress::default(),
            fs: KernelVa::NULL,
            words: ShellGlobals::default(),
            is_changed: false,
            known: None,
            again: true,
            tries: 0,
            unread: 0,
            waits_since: None,
            busy_until: scan.after(BUSY_SCANS),
            values: VariableValues::default(),
            judged: JudgedVariables::default(),
            ways: DisableMethods::default(),
            ways_since_ns: RealTime::default(),
            reported: DisableMethods::default(),
            was_on: DisableMethods::default(),
            cleared: None,
            was_put_aside: false,
            owed: None,
            last: None,
        }
    }

    /// Whether a finding that this scan has made counts: if a scan before has shown it as well, the
    /// finding with the time since when. An error if the next scan has to show it.
    pub(super) fn confirm(
        &mut self,
        how: Option<HistoryClearing>,
        now: RealTime,
    ) -> Result<Option<SeenClearing>, FirstSight> {
        match (how, self.cleared.take()) {
            (None, _) => Ok(None),
            (Some(how), Some(before)) => Ok(Some((how, (before.since_ns, 2)))),
            (Some(_), None) => {
                self.cleared = Some(UnconfirmedClearing { since_ns: now });
                self.again = true;
                Err(FirstSight)
            }
        }
    }

    /// Whether it is not interactive, as far as the scans have seen.
    pub(super) fn is_idle(&self) -> bool {
        match self.kind {
            ShellKind::Bash => {}
            ShellKind::Zsh => return self.words.pointer(ShellGlobal::RING) == Some(0),
            ShellKind::Python => return self.words.pointer(ShellGlobal::PROMPT) == Some(0),
        }
        let by_word = self.words.int(ShellGlobal::Interactive) == Some(0);
        by_word
            || self.data.is_some() && !self.is_interactive && self.words != ShellGlobals::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HashKey = HashKey::new(1);

    fn words(enabled: u32) -> ShellGlobals {
        let bytes = enabled.to_le_bytes();
        ShellGlobals::decode(|at| (at == ShellGlobal::Enabled as usize).then_some(&bytes[..]))
    }

    fn ways(values: [&str; 7]) -> Vec<DisableMethod> {
        let values = values.map(|text| match text {
            "?" => VariableValue::Unknown,
            "-" => VariableValue::Unset,
            text => VariableValue::of(text),
        });
        let mut judged = JudgedVariables::default();
        for (at, value) in values.iter().enumerate() {
            judged.note(at, value, KEY);
        }
        judged.try_patterns(&values, &mut 1);
        DisableMethods::of(&words(1), &values, &judged).iter().collect()
    }

    #[test]
    fn each_way_is_distinguished() {
        let usual =
            ["/root/.bash_history", "500", "500", "ignoredups:erasedups", "-", "history", "-"];
        let with = |at: usize, text| {
            let mut values = usual;
            values[at] = text;
            ways(values)
        };
        assert_eq!(with(0, usual[0]), []);
        assert_eq!(with(3, "ignoreboth"), [DisableMethod::Spaces]);
        assert_eq!(with(3, "erasedups:ignorespace"), [DisableMethod::Spaces]);
        assert_eq!(with(0, "-"), [DisableMethod::NoFile]);
        assert_eq!(with(0, ""), [DisableMethod::NoFile]);
        assert_eq!(with(0, "/dev/null"), [DisableMethod::NullFile]);
        assert_eq!(with(0, "/dev/zero"), [DisableMethod::NullFile]);
        assert_eq!(with(0, "/proc/self/fd/9"), [DisableMethod::SpecialFile]);
        assert_eq!(with(0, "/tmp/"), [DisableMethod::NotAFile]);
        assert_eq!(with(0, "/tmp/.x"), []);
        assert_eq!(with(0, "/dev/shm/.x"), [], "bash writes such a file");
        assert_eq!(with(1, "0"), [DisableMethod::NoSize]);
        assert_eq!(with(1, "4294967296"), [DisableMethod::NoSize]);
        assert_eq!(with(1, "0x0"), []);
        assert_eq!(with(1, "100000"), []);
        assert_eq!(with(1, " 0 "), [DisableMethod::NoSize]);
        assert_eq!(with(1, "-1"), []);
        assert_eq!(with(1, "-"), []);
        assert_eq!(with(2, "0"), [DisableMethod::NoFileSize]);
        assert_eq!(with(4, "*"), [DisableMethod::Ignored]);
        assert_eq!(with(4, "ls:cd:exit"), []);
        assert_eq!(with(4, "!(exit)"), []);
        let mut values = usual;
        (values[4], values[6]) = ("!(exit)", "cmdhist:extglob");
        assert_eq!(ways(values), [DisableMethod::Ignored]);
        assert_eq!(ways(["?"; 7]), []);
        let none =
            DisableMethods::of(&words(0), &VariableValues::default(), &JudgedVariables::default());
        assert_eq!(none.iter().collect::<Vec<_>>(), [DisableMethod::Off]);
    }

    #[test]
    fn a_place_is_known_when_it_was_searched_for() {
        let mut values = VariableValues::default();
        values[FILE] = VariableValue::of("/nonexistent/x");
        let mut judged = JudgedVariables::default();
        judged.note(FILE, &values[FILE], KEY);
        let known = DisableMethods::known(&words(1), &values, &judged);
        assert!(known.has(DisableMethod::NullFile) && !known.has(DisableMethod::NoFolder));
        judged.file.found(HistoryFilePlace::NoFolder);
        judged.file.found(HistoryFilePlace::NoFolder);
        assert!(DisableMethods::known(&words(1), &values, &judged).has(DisableMethod::NoFolder));
        let ways = DisableMethods::of(&words(1), &values, &judged);
        assert_eq!(ways.iter().collect::<Vec<_>>(), [DisableMethod::NoFolder]);
    }

    #[test]
    fn patterns_wait_for_their_turn() {
        let mut values = VariableValues::default();
        values[IGNORE] = VariableValue::of("*");
        let mut judged = JudgedVariables::default();
        judged.try_patterns(&values, &mut 0);
        assert_eq!(judged.ignores_everything, None);
        let mut left = 1;
        judged.try_patterns(&values, &mut left);
        assert_eq!((judged.ignores_everything, left), (Some(true), 0));
        judged.note(MORE_OPTIONS, &VariableValue::Unset, KEY);
        assert_eq!(judged.ignores_everything, None);
    }
}
