//! Configures which activities are reported, and their thresholds.

use panoptes_records::activities::Activity;

use crate::state::Thresholds;

/// Which activities are reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PolicyConfig {
    enabled: [bool; Activity::ALL.len()],
    /// Thresholds above which some of them are.
    pub thresholds: Thresholds,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        let mut enabled = [false; Activity::ALL.len()];
        for &activity in Activity::ALL {
            enabled[activity as usize] = activity.info().default_on;
        }
        Self { enabled, thresholds: Thresholds::default() }
    }
}

impl PolicyConfig {
    pub fn set_enabled(&mut self, activity: Activity, enabled: bool) {
        self.enabled[activity as usize] = enabled;
    }

    pub fn is_enabled(&self, activity: Activity) -> bool {
        self.enabled[activity as usize]
    }

    /// The thresholds for the state: those of disabled activities are left out.
    #[must_use]
    pub fn wanted(&self, mut thresholds: Thresholds) -> Thresholds {
        if !self.is_enabled(Activity::TcpNetworkConnectionStatus) {
            thresholds.status_period_ns = None;
        }
        thresholds
    }
}
