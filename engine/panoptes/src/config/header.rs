//! The form of the records' headers.

use panoptes_sinks::output::lines::LineForm;

use super::value::KeywordSetting;

/// The form of the records' headers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HeaderForm {
    #[default]
    Full,
    /// The lists of interfaces are written only where they are new.
    Compact,
}

impl HeaderForm {
    /// The form of records for programs.
    pub fn form(self) -> LineForm {
        match self {
            Self::Full => LineForm::Full,
            Self::Compact => LineForm::Compact,
        }
    }

    /// Why the key at `path` must be `full`.
    pub(super) fn full_is_needed(path: &str) -> String {
        format!(
            "`{path}: compact` conflicts with `service.compatibility: doca_argus`: its consumers \
             expect the whole header in each record; write `header: full`"
        )
    }
}

impl KeywordSetting for HeaderForm {
    const WORDS: &'static [(&'static str, Self)] =
        &[("full", Self::Full), ("compact", Self::Compact)];
}
