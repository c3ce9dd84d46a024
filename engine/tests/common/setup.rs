//! What tests watch a machine with. The tests of the synthetic machine use this file, too.

use std::sync::Arc;

use panoptes_engine::detect::binary_attestation::{
    ShippedBuilder, ShippedFile, ShippedFiles, ShippedSubject,
};
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::watch::{MachineIdentity, Setup};
use panoptes_profiles::Profile;
use panoptes_records::activities::Activity;
use panoptes_records::json::Limits as TextLimits;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_tables::HashKey;

/// Any key does: it only spreads the entries of tables.
pub(crate) const KEY: HashKey = HashKey::new(0x5eed_5eed_5eed_5eed);

/// A reference with one hash, so that attestation checks all programs and none of them is shipped.
pub(crate) fn one_hash() -> ShippedFiles {
    let mut builder = ShippedBuilder::new();
    let everywhere = builder.subject(&ShippedSubject::Everywhere).expect("there is room");
    let file = ShippedFile { sha256: Some([7; 32]), ..ShippedFile::default() };
    builder.add(everywhere, &file).expect("there is room");
    builder.build()
}

/// Reports all activities.
pub(crate) fn everything() -> PolicyConfig {
    let mut policy = PolicyConfig::default();
    for &activity in Activity::ALL {
        policy.set_enabled(activity, true);
    }
    policy
}

/// What a machine is watched with.
pub(crate) fn setup<'a>(
    limits: &Limits,
    profile: &'a Profile,
    policy: PolicyConfig,
    shipped: Arc<ShippedFiles>,
) -> Setup<'a> {
    let text = TextLimits::new(limits.string_length as usize);
    Setup {
        limits: *limits,
        key: KEY,
        message_ids: 1,
        policy,
        login_servers: <_>::default(),
        content_rules: Arc::default(),
        containers: Arc::default(),
        exceptions: Arc::default(),
        report_existing: true,
        waits_for_clock: false,
        header: RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), text),
        identity: MachineIdentity::default(),
        profile,
        shipped,
    }
}
