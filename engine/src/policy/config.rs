//! What of all that can be reported is.

use panoptes_sinks::activities::Activity;

/// Which activities are reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PolicyConfig {
    enabled: [bool; Activity::ALL.len()],
}

impl Default for PolicyConfig {
    fn default() -> Self {
        let mut enabled = [false; Activity::ALL.len()];
        for &activity in Activity::ALL {
            enabled[activity as usize] = activity.info().default_on;
        }
        Self { enabled }
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
}
