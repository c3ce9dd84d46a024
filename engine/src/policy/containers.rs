//! Which containers are reported, and their images: looked up once per container and kept with its
//! row.

use std::sync::Arc;

use crate::container_config::{ContainerConfig, ContainerNames, ImageReference};
use crate::detect::binary_attestation::ShippedFiles;
use crate::shipped::ProcessSubjects;
use crate::state::ScanContext;
use crate::state::container::{Container, ContainerFacts, ContainerKey};
use crate::state::facts::ProcessFacts;
use panoptes_tables::{RowId, room};

/// The configuration's answers for one tracked container.
#[derive(Clone, Copy, Debug)]
struct ContainerVerdict {
    key: ContainerKey,
    /// Version of the names by which the container is known.
    version: u32,
    decision: Decision,
}

/// Whether a container is reported, and its image.
#[derive(Clone, Copy, Debug)]
struct Decision {
    reported: bool,
    image: ImageId,
}

/// Sources of a container's image: the configuration, and the SBOMs that apply.
#[derive(Clone, Copy, Debug, Default)]
struct ImageId {
    configured: Option<usize>,
    applied: ProcessSubjects,
}

/// Applies the configuration of containers.
#[derive(Debug)]
pub(super) struct ContainerPolicy {
    config: Arc<ContainerConfig>,
    /// The SBOMs, which may name images.
    shipped: Arc<ShippedFiles>,
    /// Verdicts, by row number of the container.
    verdicts: Box<[Option<ContainerVerdict>]>,
}

/// What to do with a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum RecordDecision<'a> {
    /// It is an event of a container that is not reported.
    Silent,
    /// It belongs to no container, or to one of which nothing is known.
    Outside,
    /// It belongs to this container.
    Reported(ReportedContainer<'a>),
}

/// A container that is reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportedContainer<'a> {
    pub(super) facts: ContainerFacts<'a>,
    pub(super) image: ImageReference<'a>,
}

impl ContainerPolicy {
    pub(super) fn new(containers: u32) -> Self {
        let verdicts = room::copies(None, containers as usize);
        Self { config: Arc::default(), shipped: Arc::default(), verdicts }
    }

    /// Replaces the configuration.
    pub(super) fn set(&mut self, config: Arc<ContainerConfig>) {
        self.config = config;
        self.verdicts.fill(None);
    }

    /// Replaces the SBOMs.
    pub(super) fn set_shipped(&mut self, shipped: Arc<ShippedFiles>) {
        self.shipped = shipped;
        self.verdicts.fill(None);
    }

    /// What to do with a record of a tracked container. With `is_due`, it is reported whatever the
    /// configuration says.
    pub(super) fn tracked<'a>(
        &'a mut self,
        cx: &ScanContext<'a>,
        id: RowId,
        container: &Container,
        is_due: bool,
    ) -> RecordDecision<'a> {
        let facts = container.facts(cx.strings);
        let place = self.verdicts.get_mut(id.0 as usize);
        let (key, version) = (container.key, container.version);
        let kept = place.as_ref().and_then(|place| **place);
        let kept = kept.filter(|verdict| (verdict.key, verdict.version) == (key, version));
        let verdict = kept.unwrap_or_else(|| ContainerVerdict {
            key,
            version,
            decision: decide(&self.config, &self.shipped, &facts),
        });
        if let Some(place) = place {
            *place = Some(verdict);
        }
        self.judged(facts, verdict.decision, is_due)
    }

    /// What to do with a record of a container of which only the id is known, because it is not
    /// tracked, or no longer.
    pub(super) fn untracked<'a>(
        &'a self,
        key: Option<ContainerKey>,
        id: &'a [u8],
        is_due: bool,
    ) -> RecordDecision<'a> {
        let facts = ContainerFacts { id, ..ContainerFacts::default() };
        let kept = key.and_then(|key| self.kept(key));
        let decision = kept.unwrap_or_else(|| decide(&self.config, &self.shipped, &facts));
        self.judged(facts, decision, is_due)
    }

    /// What to do with a record of a container of which only the key is known.
    pub(super) fn gone<'a>(&self, key: ContainerKey, is_due: bool) -> RecordDecision<'a> {
        let kept = self.kept(key).map(|decision| decision.reported);
        if is_due || kept.unwrap_or_else(|| self.config.reports_all()) {
            RecordDecision::Outside
        } else {
            RecordDecision::Silent
        }
    }

    /// The names of the container of a process, and its image, as far as they are known.
    pub(super) fn names_of<'a>(
        &'a mut self,
        cx: &ScanContext<'a>,
        process: &ProcessFacts<'a>,
    ) -> Option<ContainerNames<'a>> {
        let (key, id) = (process.container_key, process.container);
        let judged = match (key.and_then(|key| cx.containers.find(key)), id) {
            (Some((row, container)), _) => self.tracked(cx, row, container, true),
            (None, Some(id)) => self.untracked(key, id, true),
            (None, None) => RecordDecision::Outside,
        };
        match judged {
            RecordDecision::Reported(ReportedContainer { facts, image }) => {
                Some(names(&facts, image))
            }
            RecordDecision::Silent | RecordDecision::Outside => None,
        }
    }

    fn judged<'a>(
        &'a self,
        facts: ContainerFacts<'a>,
        decision: Decision,
        is_due: bool,
    ) -> RecordDecision<'a> {
        if !decision.reported && !is_due {
            return RecordDecision::Silent;
        }
        let image = decision.image.of(&self.config, &self.shipped);
        RecordDecision::Reported(ReportedContainer { facts, image })
    }

    fn kept(&self, key: ContainerKey) -> Option<Decision> {
        let kept = self.verdicts.iter().flatten().find(|verdict| verdict.key == key);
        kept.map(|verdict| verdict.decision)
    }
}

impl ImageId {
    /// The image's name and digest from the configuration, completed by the SBOM that applies.
    fn of<'a>(&self, config: &'a ContainerConfig, shipped: &'a ShippedFiles) -> ImageReference<'a> {
        let configured = self.configured.and_then(|image| config.images.get(image));
        let configured = configured.map(ImageReference::new).unwrap_or_default();
        let (name, digest) = shipped.image_of(&self.applied).unwrap_or_default();
        ImageReference { name: configured.name.or(name), digest: configured.digest.or(digest) }
    }
}

fn decide(
    config: &ContainerConfig,
    shipped: &ShippedFiles,
    facts: &ContainerFacts<'_>,
) -> Decision {
    let configured = config.images.find(facts.id, facts.name());
    let configured_image = configured.and_then(|image| config.images.get(image));
    let applied = shipped.of_container(facts.id, facts.name(), configured_image);
    let image = ImageId { configured, applied };
    let names = names(facts, image.of(config, shipped));
    Decision { reported: config.reports(&names), image }
}

fn names<'a>(facts: &ContainerFacts<'a>, image: ImageReference<'a>) -> ContainerNames<'a> {
    ContainerNames {
        id: facts.id,
        name: facts.name(),
        pod_name: facts.pod_name(),
        pod_uid: facts.pod_uid,
        image,
    }
}
