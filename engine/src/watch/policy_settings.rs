//! Settings of what is reported of a machine, and how. All of them can change between two scans.

use std::sync::Arc;

use panoptes_records::activities::{Activity, Preset, Severity};
use panoptes_records::redact::Redactor;

use super::WatchedMachine;
use crate::container_config::Glob;
use crate::detect::DetectorRules;
use crate::detect::file_content::rules::ContentRules;
use crate::policy::PolicyConfig;
use crate::policy::exceptions::Exceptions;

/// Settings of what is reported, and how.
#[derive(Clone, Debug)]
pub struct PolicySettings {
    /// Which activities are reported, and their thresholds.
    pub config: PolicyConfig,
    /// The severity of activities, and the smallest preset that has them.
    pub weights: Vec<(Activity, Severity, Preset)>,
    /// Further login servers, by patterns of their programs' paths.
    pub login_servers: Arc<[Glob]>,
    /// Which changes of files are alerts.
    pub content_rules: Arc<ContentRules>,
    /// Which alerts are silenced.
    pub exceptions: Arc<Exceptions>,
    /// Finds the secrets in arguments and shell commands.
    pub redactor: Option<Redactor>,
}

impl WatchedMachine {
    /// Uses other settings from now on. A detector that needs memory of its own
    /// ([`crate::detect::with_memory`]) must have been on since the start.
    pub fn set_policy(&mut self, new: PolicySettings) {
        let PolicySettings { config, weights, login_servers, content_rules, .. } = new;
        let header = self.policy.header_mut();
        for (activity, severity, preset) in weights {
            header.set_severity(activity, severity);
            header.set_preset(activity, preset);
        }
        self.state.set_thresholds(config.wanted(config.thresholds));
        self.detectors.set_rules(&DetectorRules {
            is_enabled: &|activity| config.is_enabled(activity),
            login_servers: &login_servers,
            content_rules: &content_rules,
        });
        self.code.set_policy(&config);
        self.policy.set_config(config);
        self.policy.set_exceptions(new.exceptions);
        self.policy.set_redactor(new.redactor);
    }
}
