//! The variables that every scan reads of every shell.

/// One of bash's variables. Other shells have others in the same places.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ShellGlobal {
    /// `the_history`, which no symbol names: `HIST_ENTRY **`.
    TheHistory,
    /// Length of the list.
    Length,
    /// The number of the first command in the list.
    Base,
    /// Maximum length of the list, if limited.
    MaxEntries,
    /// Set by `set -o history`.
    Enabled,
    /// Whether the shell is interactive.
    Interactive,
    /// Whether bash has run its startup files and has read the history of earlier sessions.
    Initialized,
    /// Number of commands that were added and are not in the file yet.
    SessionLines,
    /// Counts commands that were run.
    CommandNumber,
    /// Number of lines read so far of the command that is being read.
    LineCount,
    /// Whether a command is being run.
    Executing,
    /// `VAR_CONTEXT *global_variables`
    Variables,
    /// The first command's entry, in a list without a symbol for its length.
    FirstEntry,
    /// The last command's entry, in such a list.
    LastEntry,
    /// The null pointer behind that.
    NoEntry,
}

impl ShellGlobal {
    pub(super) const COUNT: usize = 15;

    /// All of them in order, each with its name among bash's symbols and its size in bytes. The
    /// last ones have no symbol of their own.
    pub(super) const ALL: [(Self, &str, u64); Self::COUNT] = [
        (Self::TheHistory, "the_history", 8),
        (Self::Length, "history_length", 4),
        (Self::Base, "history_base", 4),
        (Self::MaxEntries, "history_max_entries", 4),
        (Self::Enabled, "enable_history_list", 4),
        (Self::Interactive, "interactive_shell", 4),
        (Self::Initialized, "shell_initialized", 4),
        (Self::SessionLines, "history_lines_this_session", 4),
        (Self::CommandNumber, "current_command_number", 4),
        (Self::LineCount, "current_command_line_count", 4),
        (Self::Executing, "executing", 4),
        (Self::Variables, "global_variables", 8),
        (Self::FirstEntry, "", 8),
        (Self::LastEntry, "", 8),
        (Self::NoEntry, "", 8),
    ];

    /// Number of lines that readline has read from its last history file: in Python, in the place
    /// of a word that only bash has.
    pub(super) const LINES_READ: Self = Self::SessionLines;
    /// readline's prompt, `char *`.
    pub(super) const PROMPT: Self = Self::Variables;

    /// zsh's ring of commands, `Histent`: in the place of bash's list.
    pub(super) const RING: Self = Self::TheHistory;
    /// zsh's maximum number of commands in the list, and in the file.
    pub(super) const SIZE: Self = Self::FirstEntry;
    pub(super) const SAVED: Self = Self::LastEntry;
    /// Number of zsh's functions that run, one inside the other.
    pub(super) const LEVEL: Self = Self::LineCount;
    /// zsh's line that is being edited: only its place is of interest.
    pub(super) const EDITED: Self = Self::NoEntry;
    /// zsh's global parameters, `HashTable`.
    pub(super) const PARAMETERS: Self = Self::Variables;

    /// The words of a zsh, each with its name among zsh's symbols (zsh 5.0 to 5.9: hist.c,
    /// params.c). The first one decides for most programs that they are no zsh.
    pub(super) const OF_ZSH: [(Self, &str); 8] = [
        (Self::RING, "hist_ring"),
        (Self::Length, "histlinect"),
        (Self::CommandNumber, "curhist"),
        (Self::SIZE, "histsiz"),
        (Self::SAVED, "savehistsiz"),
        (Self::LEVEL, "locallevel"),
        (Self::EDITED, "curline"),
        (Self::PARAMETERS, "realparamtab"),
    ];

    /// The words of a Python besides the list, each with its name among readline's symbols
    /// (readline 8.0 to 8.3: history.c, histfile.c, readline.c).
    pub(super) const OF_READLINE: [(Self, &str); 5] = [
        (Self::Length, "history_length"),
        (Self::Base, "history_base"),
        (Self::MaxEntries, "history_max_entries"),
        (Self::LINES_READ, "history_lines_read_from_file"),
        (Self::PROMPT, "rl_prompt"),
    ];

    /// Its name among bash's symbols.
    pub(super) const fn symbol(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The values of all words in one scan; `None` where unknown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ShellGlobals([Option<u64>; ShellGlobal::COUNT]);

impl ShellGlobals {
    /// Decodes the bytes that were read of each word.
    pub(super) fn decode<'a>(mut bytes: impl FnMut(usize) -> Option<&'a [u8]>) -> Self {
        Self(core::array::from_fn(|index| {
            let bytes = bytes(index)?;
            let mut word = [0; 8];
            word.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(u64::from_le_bytes(word))
        }))
    }

    pub(super) fn pointer(&self, word: ShellGlobal) -> Option<u64> {
        self.0[word as usize]
    }

    pub(super) fn number(&self, word: ShellGlobal) -> Option<i64> {
        self.0[word as usize].map(|value| value as i64)
    }

    pub(super) fn int(&self, word: ShellGlobal) -> Option<i32> {
        self.0[word as usize].map(|value| value as u32 as i32)
    }

    /// Whether an int is not 0, or `otherwise` if it is unknown.
    pub(super) fn is_set(&self, word: ShellGlobal, otherwise: bool) -> bool {
        self.int(word).map_or(otherwise, |value| value != 0)
    }

    /// Number of lines of the last command, as far as it was read.
    pub(super) fn begun_or_run(&self) -> u32 {
        self.int(ShellGlobal::LineCount).and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// Number of lines so far of the command that is being read; 0 if there is none.
    pub(super) fn lines_begun(&self) -> u32 {
        if self.is_set(ShellGlobal::Executing, false) {
            return 0;
        }
        self.begun_or_run()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_their_places() {
        for (at, (word, ..)) in ShellGlobal::ALL.iter().enumerate() {
            assert_eq!(*word as usize, at);
        }
        let bytes = [[0xff_u8; 4]; ShellGlobal::COUNT];
        let words = ShellGlobals::decode(|at| (at != 2).then(|| &bytes[at][..]));
        assert_eq!(words.int(ShellGlobal::Length), Some(-1));
        assert_eq!(words.int(ShellGlobal::Base), None);
        assert!(words.is_set(ShellGlobal::Base, true));
    }
}
