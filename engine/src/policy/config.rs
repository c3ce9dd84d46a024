//! Configures which activities are reported, and their thresholds.

use std::sync::Arc;

use panoptes_decoders::kernel::bpf::BPF_TAG_BYTES;
use panoptes_records::activities::Activity;

use crate::state::Thresholds;

/// Which activities are reported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyConfig {
    enabled: [bool; Activity::ALL.len()],
    /// Thresholds above which some of them are.
    pub thresholds: Thresholds,
    /// `ebpf_program_dangerous`: tags of the programs that are known and allowed.
    pub allowed_tags: Arc<[BpfTag]>,
}

/// The first bytes of the hash of a program's instructions (`bpf_prog.tag`, include/linux/bpf.h).
pub type BpfTag = [u8; BPF_TAG_BYTES];

impl Default for PolicyConfig {
    fn default() -> Self {
        let mut enabled = [false; Activity::ALL.len()];
        for &activity in Activity::ALL {
            enabled[activity as usize] = activity.info().default_on;
        }
        Self { enabled, thresholds: Thresholds::default(), allowed_tags: Arc::default() }
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
