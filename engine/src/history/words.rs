//! The handful of bash's own variables that are read of every bash in every scan.

/// One of bash's variables, by the name that it has there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Word {
    /// `the_history`, which no symbol names: `HIST_ENTRY **`.
    TheHistory,
    /// How many commands it has.
    Length,
    /// The number of the first of them.
    Base,
    /// How many it may have, once that is limited.
    MaxEntries,
    /// What `set -o history` sets.
    Enabled,
    /// Whether somebody types into it.
    Interactive,
    /// Whether it is through with its startup files and has read the history of earlier sessions.
    Initialized,
    /// How many commands were added that are not in the file yet.
    SessionLines,
    /// Counts commands that were run.
    CommandNumber,
    /// How many lines of the command that is being read were read.
    LineCount,
    /// Whether a command is being run.
    Executing,
    /// `VAR_CONTEXT *global_variables`
    Variables,
    /// The first command's entry, of a list whose length no symbol says.
    FirstEntry,
    /// The last one's.
    LastEntry,
    /// What lies behind that: nothing.
    NoEntry,
}

impl Word {
    /// How many there are.
    pub(super) const COUNT: usize = 15;

    /// All of them, in order.
    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::TheHistory,
        Self::Length,
        Self::Base,
        Self::MaxEntries,
        Self::Enabled,
        Self::Interactive,
        Self::Initialized,
        Self::SessionLines,
        Self::CommandNumber,
        Self::LineCount,
        Self::Executing,
        Self::Variables,
        Self::FirstEntry,
        Self::LastEntry,
        Self::NoEntry,
    ];

    /// Its name among bash's symbols.
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::TheHistory => "the_history",
            Self::Length => "history_length",
            Self::Base => "history_base",
            Self::MaxEntries => "history_max_entries",
            Self::Enabled => "enable_history_list",
            Self::Interactive => "interactive_shell",
            Self::Initialized => "shell_initialized",
            Self::SessionLines => "history_lines_this_session",
            Self::CommandNumber => "current_command_number",
            Self::LineCount => "current_command_line_count",
            Self::Executing => "executing",
            Self::Variables => "global_variables",
            // They are in no place of their own.
            Self::FirstEntry | Self::LastEntry | Self::NoEntry => "",
        }
    }

    /// How many bytes it has.
    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::TheHistory
            | Self::Variables
            | Self::FirstEntry
            | Self::LastEntry
            | Self::NoEntry => 8,
            _ => 4,
        }
    }
}

/// What they are in one scan; nothing where they are not known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Words([Option<u64>; Word::COUNT]);

impl Words {
    /// Takes in the bytes that were read of each.
    pub(super) fn decode<'a>(mut bytes: impl FnMut(usize) -> Option<&'a [u8]>) -> Self {
        Self(core::array::from_fn(|index| {
            let bytes = bytes(index)?;
            let mut word = [0; 8];
            word.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(u64::from_le_bytes(word))
        }))
    }

    /// A pointer.
    pub(super) fn pointer(&self, word: Word) -> Option<u64> {
        self.0[word as usize]
    }

    /// An int.
    pub(super) fn int(&self, word: Word) -> Option<i32> {
        self.0[word as usize].map(|value| value as u32 as i32)
    }

    /// Whether an int is not 0, or what is said where it is not known.
    pub(super) fn is_set(&self, word: Word, otherwise: bool) -> bool {
        self.int(word).map_or(otherwise, |value| value != 0)
    }

    /// How many lines the last command had, as far as it was read.
    pub(super) fn begun_or_run(&self) -> u32 {
        self.int(Word::LineCount).and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// How many lines the command has so far that is being read; 0 where none is.
    pub(super) fn lines_begun(&self) -> u32 {
        if self.is_set(Word::Executing, false) {
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
        for (at, word) in Word::ALL.iter().enumerate() {
            assert_eq!(*word as usize, at);
        }
        let bytes = [[0xff_u8; 4]; Word::COUNT];
        let words = Words::decode(|at| (at != 2).then(|| &bytes[at][..]));
        assert_eq!(words.int(Word::Length), Some(-1));
        assert_eq!(words.int(Word::Base), None);
        assert!(words.is_set(Word::Base, true));
    }
}
