//! All detectors together, and what tests of several detectors share.

use core::ops::Range;
use std::sync::Arc;

use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};
use panoptes_tables::HashKey;

use super::{DETECTOR_GAPS, DetectorRules, DetectorSetup, Detectors};
use crate::container_config::Images;
use crate::state::tests::watch::limits;

/// A machine whose memory cannot be read.
pub(crate) struct Unreadable;

impl MemorySource for Unreadable {
    fn read_batch(&mut self, requests: &mut [ReadRequest], _: &mut [u8]) {
        for request in requests {
            request.outcome = ReadOutcome::Failed;
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        &[]
    }
}

#[test]
fn each_gap_of_a_detector_has_its_losses() {
    let mut detectors = Detectors::build(&DetectorSetup {
        limits: &limits(),
        rules: DetectorRules {
            is_enabled: &|_| true,
            login_servers: &Arc::default(),
            content_rules: &Arc::default(),
        },
        report_existing: false,
        shipped: &Arc::default(),
        images: &Images::default(),
        key: HashKey::new(7),
    });
    let losses = detectors.losses();
    assert_eq!(losses.len(), DETECTOR_GAPS.len());
    // Records and metrics have this order.
    let keys = DETECTOR_GAPS.map(|kind| kind.key);
    assert_eq!(keys[..4], ["content_changes", "paths", "binaries", "unjudged"]);
    assert!(losses.iter().all(|it| it.loss.missed() == 0 && it.folder.is_empty()));
}
