//! All that is allocated for one machine, and its size.

use std::sync::Arc;

use panoptes_records::json::Limits as TextLimits;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_tables::{HashKey, room};

use super::clock::Clock;
use super::code_rounds::CodeRounds;
use super::workload::KnownMachine;
use super::{MachineIdentity, WatchedMachine};
use crate::container_config::{ContainerConfig, Glob};
use crate::detect::binary_attestation::ShippedFiles;
use crate::detect::file_content::rules::ContentRules;
use crate::detect::{DetectorRules, DetectorSetup, Detectors};
use crate::limits::Limits;
use crate::page_cache::Contents;
use crate::policy::exceptions::Exceptions;
use crate::policy::{Policy, PolicyConfig};
use crate::state::facts::HeapRule;
use crate::state::{MachineState, StateSettings};
use crate::walk::WalkCheckpoint;

/// What the parts are made for: [`super::Setup`], without the profile.
pub(super) struct PartsSetup<'a> {
    pub(super) limits: &'a Limits,
    pub(super) heap: HeapRule,
    pub(super) key: HashKey,
    pub(super) message_ids: u64,
    pub(super) policy: PolicyConfig,
    pub(super) login_servers: Arc<[Glob]>,
    pub(super) content_rules: Arc<ContentRules>,
    pub(super) containers: Arc<ContainerConfig>,
    pub(super) exceptions: Arc<Exceptions>,
    pub(super) report_existing: bool,
    pub(super) waits_for_clock: bool,
    pub(super) header: RecordHeader,
    pub(super) identity: MachineIdentity,
    pub(super) shipped: Arc<ShippedFiles>,
}

/// All that is allocated for one machine.
pub(super) struct MachineParts {
    pub(super) kept: WalkCheckpoint,
    pub(super) state: MachineState,
    pub(super) contents: Contents,
    pub(super) detectors: Detectors,
    pub(super) code: CodeRounds,
    pub(super) policy: Policy,
    pub(super) workload: KnownMachine,
    pub(super) clock: Clock,
}

impl MachineParts {
    pub(super) fn new(setup: PartsSetup<'_>) -> Self {
        let PartsSetup { limits, key, report_existing, .. } = setup;
        let settings =
            StateSettings { heap: setup.heap, report_existing, ..StateSettings::default() };
        let mut state = MachineState::without_scratch(limits, settings, key);
        state.set_thresholds(setup.policy.wanted(setup.policy.thresholds));
        let detectors = Detectors::build(&DetectorSetup {
            limits,
            rules: DetectorRules {
                is_enabled: &|activity| setup.policy.is_enabled(activity),
                login_servers: &setup.login_servers,
                content_rules: &setup.content_rules,
            },
            report_existing,
            shipped: &setup.shipped,
            images: &setup.containers.images,
            key,
        });
        let code = CodeRounds::new(&setup.policy, key);
        let mut policy = Policy::new(limits, setup.policy, setup.header, setup.message_ids, key);
        policy.set_containers(setup.containers);
        policy.set_exceptions(setup.exceptions);
        policy.set_shipped(setup.shipped);
        Self {
            kept: WalkCheckpoint::new(limits),
            state,
            contents: Contents::without_buffers(limits, key),
            detectors,
            code,
            policy,
            workload: KnownMachine::new(setup.identity),
            clock: Clock::new(setup.waits_for_clock, limits.processes as usize),
        }
    }
}

impl WatchedMachine {
    /// Number of bytes that [`Self::new`] allocates for a machine, beside a copy of its kernel's
    /// layouts; `None` if it is not a number of 64 bits. Allocates nothing of that.
    pub fn bytes(
        limits: &Limits,
        policy: &PolicyConfig,
        shipped: &Arc<ShippedFiles>,
    ) -> Option<u64> {
        let text = TextLimits::new(limits.string_length as usize);
        let header = RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), text);
        room::measure(|| {
            MachineParts::new(PartsSetup {
                limits,
                heap: HeapRule::default(),
                key: HashKey::new(0),
                message_ids: 0,
                policy: policy.clone(),
                login_servers: Arc::default(),
                content_rules: Arc::default(),
                containers: Arc::default(),
                exceptions: Arc::default(),
                report_existing: false,
                waits_for_clock: false,
                header,
                identity: MachineIdentity::default(),
                shipped: Arc::clone(shipped),
            })
        })
    }
}
