//! The sets of activities that outputs can have. Which activity is in which is decided in
//! `activities.rs`.

/// Sets of activities from which an output chooses. Each contains the one before it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Preset {
    /// Alerts, and what concerns Panoptes itself.
    Alerts,
    /// Those, and events that show who ran what, and who spoke with whom.
    Security,
    /// All activities.
    #[default]
    Everything,
}

impl Preset {
    /// The preset's name in a configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Alerts => "alerts",
            Self::Security => "security",
            Self::Everything => "everything",
        }
    }
}
