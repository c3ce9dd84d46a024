//! What of all that can be reported is, and from when on.

use panoptes_sinks::activities::Activity;

use crate::state::ConnectionThresholds;

/// Which activities are reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PolicyConfig {
    enabled: [bool; Activity::ALL.len()],
    /// From when on some of them are.
    pub thresholds: ConnectionThresholds,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        let mut enabled = [false; Activity::ALL.len()];
        for &activity in Activity::ALL {
            enabled[activity as usize] = activity.info().default_on;
        }
        Self { enabled, thresholds: ConnectionThresholds::default() }
    }
}

impl PolicyConfig {
    /// Turns an activity on or off.
    pub fn set_enabled(&mut self, activity: Activity, enabled: bool) {
        self.enabled[activity as usize] = enabled;
    }

    /// Whether an activity is reported.
    pub fn is_enabled(&self, activity: Activity) -> bool {
        self.enabled[activity as usize]
    }

    /// The thresholds as the state needs them: nobody looks for what is not reported.
    #[must_use]
    pub fn wanted(&self, mut thresholds: ConnectionThresholds) -> ConnectionThresholds {
        if !self.is_enabled(Activity::TcpNetworkConnectionStatus) {
            thresholds.status_period_ns = None;
        }
        thresholds
    }
}
