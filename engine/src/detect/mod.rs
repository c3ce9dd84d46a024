//! Detectors: what the tracked state, memory and the content of files show about attacks.
//!
//! Each folder is one [`Detector`] and has the name of its page in `docs/detectors/`. A detector
//! passes what it has found to [`Findings`], one variant of [`Finding`] each, and does not know the
//! others. [`Detectors`] is the list of all of them.
//!
//! Not here: what is reported and in which words ([`crate::policy`]). Hidden processes and the
//! thresholds of connections are changes of the tracked state ([`crate::state`]).
//!
//! Start reading at [`Detector`].

pub mod binary_attestation;
pub mod file_content;
pub mod hidden_connections;
pub mod memory_permissions;
pub mod reverse_shells;
pub mod shell_history;
#[cfg(test)]
pub(crate) mod tests;

use core::fmt::Debug;
use std::sync::Arc;

use arrayvec::ArrayVec;
use panoptes_records::activities::Activity;
use panoptes_tables::HashKey;

use crate::container_config::{Glob, Images};
use crate::limits::Limits;
use crate::loss::{GapKind, GapLoss, Loss};
use crate::page_cache::{ContentSource, MachineMemory};
use crate::shipped::ShippedFiles;
use crate::state::{Change, MachineState, ScanContext};

/// Rules of detectors, which can change between two scans.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct DetectorRules<'a> {
    /// Whether an activity is reported. A detector is off if none of its activities is.
    pub is_enabled: &'a dyn Fn(Activity) -> bool,
    /// Further login servers, by patterns of their programs' paths.
    pub login_servers: &'a Arc<[Glob]>,
    /// Which changes of files are alerts.
    pub content_rules: &'a Arc<file_content::rules::ContentRules>,
}

/// What detectors are made for.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct DetectorSetup<'a> {
    pub limits: &'a Limits,
    pub rules: DetectorRules<'a>,
    /// Whether what exists when watching starts counts as new.
    pub report_existing: bool,
    /// What may run.
    pub shipped: &'a Arc<ShippedFiles>,
    pub images: &'a Images,
    /// Random, secret from the guests. Each detector derives its own key.
    pub key: HashKey,
}

/// One scan, as detectors see it.
#[expect(missing_debug_implementations, reason = "a source need not have one")]
pub struct DetectorContext<'a> {
    pub memory: MachineMemory<'a>,
    pub cx: &'a ScanContext<'a>,
    pub out: &'a mut dyn Findings,
}

impl DetectorContext<'_> {
    /// Passes on what a detector has found.
    pub fn found(&mut self, finding: &Finding<'_>) -> Acceptance {
        self.out.found(self.cx, finding)
    }
}

/// A detector of one kind of attack on one machine.
///
/// A scan calls [`begin_scan`](Self::begin_scan), [`observe`](Self::observe) for each change,
/// [`update`](Self::update), and, if files were hashed meanwhile, [`settle`](Self::settle). None of
/// them allocates. A detector that has its facts in one of these steps implements that step alone.
pub trait Detector {
    /// Objects that it needs only during a scan. The machines that one thread watches share them.
    type Scratch: Debug + Default;

    /// The gaps of `coverage_degraded` that it can have, in the order of [`Self::losses`].
    const GAPS: &'static [GapKind];

    /// Allocates everything, except [`Self::Scratch`].
    fn build(setup: &DetectorSetup<'_>) -> Self;

    /// Whether it allocates more if these activities are reported: it then starts with a machine,
    /// or not at all.
    fn needs_memory(_is_enabled: &dyn Fn(Activity) -> bool) -> bool {
        false
    }

    /// Applies other rules from now on. Its memory stays as it was allocated.
    fn set_rules(&mut self, _rules: &DetectorRules<'_>) {}

    /// Uses other SBOMs from now on.
    fn set_shipped(&mut self, _shipped: &Arc<ShippedFiles>) {}

    /// Uses other images of containers from now on.
    fn set_images(&mut self, _images: &Images) {}

    /// Allocates for scans with these limits, or smaller ones.
    fn scratch(_limits: &Limits) -> Self::Scratch {
        Self::Scratch::default()
    }

    /// Takes the scratch space before a scan, and returns it by a second call after the scan.
    fn exchange(&mut self, _scratch: &mut Self::Scratch) {}

    /// Starts a scan.
    fn begin_scan(&mut self) {}

    /// Receives one change of the tracked state.
    fn observe(&mut self, _context: &mut DetectorContext<'_>, _change: &Change<'_>) {}

    /// Checks the scan that `state` was last updated from.
    fn update(
        &mut self,
        _context: &mut DetectorContext<'_>,
        _state: &MachineState,
        _files: &mut dyn ContentSource,
    ) {
    }

    /// Reports what waited for the content of files, as far as it is known by now.
    fn settle(&mut self, _context: &mut DetectorContext<'_>, _files: &mut dyn ContentSource) {}

    /// Offers findings once more that were not accepted: no scan follows. Returns the number of
    /// those that were not offered.
    fn finish(
        &mut self,
        _cx: &ScanContext<'_>,
        _out: &mut dyn Findings,
        _state: &MachineState,
        _files: &mut dyn ContentSource,
    ) -> u64 {
        0
    }

    /// Whether a finding waits for the next scan, which should come early and leave nothing.
    fn waits_for_next(&self) -> bool {
        false
    }

    /// Whether a change waits for a scan that leaves nothing.
    fn waits_for_all(&self) -> bool {
        false
    }

    /// The objects that are not checked: there is no room, or they cannot be read. They are the
    /// losses of the first of [`Self::GAPS`].
    fn unchecked(&mut self) -> &mut Loss;

    /// Passes on the losses of each of [`Self::GAPS`]. A detector with one gap need not implement
    /// it.
    fn losses<'a>(&'a mut self, visit: &mut dyn FnMut(GapLoss<'a>)) {
        visit(self.unchecked().into());
    }
}

/// What a detector has found.
#[derive(Clone, Copy, Debug)]
pub enum Finding<'a> {
    BinaryAttestation(&'a binary_attestation::Alert<'a>),
    FileContent(&'a file_content::ContentChange<'a>),
    HiddenConnection(&'a hidden_connections::HiddenConnection),
    /// Any change of the right to execute memory, with the rule's verdict.
    MemoryPermissions(&'a memory_permissions::JudgedAreaChange<'a>),
    PackageFiles(&'a file_content::packages::PackageFiles<'a>),
    PathChange(&'a file_content::paths::PathChange<'a>),
    PermissionChange(&'a file_content::paths::PermissionChange<'a>),
    ReverseShell(&'a reverse_shells::ReverseShell<'a>),
    ShellHistory(&'a shell_history::HistoryEvent<'a>),
}

/// Whether a finding was accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Acceptance {
    /// It was reported, or its report is not wanted.
    Yes,
    /// There was no room for its record, which the queue counts as dropped, or there are too many
    /// of its process at present. It is to be offered again.
    No,
}

impl Acceptance {
    /// Whether this one and another one were both accepted.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match self {
            Self::Yes => other,
            Self::No => self,
        }
    }
}

/// Receiver of findings.
pub trait Findings {
    fn found(&mut self, cx: &ScanContext<'_>, finding: &Finding<'_>) -> Acceptance;
}

impl<F: FnMut(&ScanContext<'_>, &Finding<'_>) -> Acceptance> Findings for F {
    fn found(&mut self, cx: &ScanContext<'_>, finding: &Finding<'_>) -> Acceptance {
        self(cx, finding)
    }
}

/// The lists one after the other.
const fn joined<const COUNT: usize>(lists: &[&[GapKind]]) -> [GapKind; COUNT] {
    let mut joined = [GapKind::at_once("", ""); COUNT];
    let mut count = 0;
    let mut list = 0;
    while list < lists.len() {
        let mut gap = 0;
        while gap < lists[list].len() {
            joined[count] = lists[list][gap];
            count += 1;
            gap += 1;
        }
        list += 1;
    }
    joined
}

/// The folders of some detectors.
pub type DetectorNames = ArrayVec<&'static str, DETECTORS>;

/// The losses of all detectors, one for each of [`DETECTOR_GAPS`].
pub type DetectorLosses<'a> = ArrayVec<GapLoss<'a>, { DETECTOR_GAPS.len() }>;

/// Lists the detectors. Each step calls them in the order of `steps`; their gaps have the order of
/// `gaps`.
macro_rules! detectors {
    (
        steps { $($folder:ident: $detector:ty,)* }
        gaps { $($with_gaps:ident)* }
    ) => {
        /// All detectors of one machine, by their folders.
        #[derive(Debug)]
        pub struct Detectors {
            $(pub $folder: $detector,)*
        }

        /// Number of detectors.
        const DETECTORS: usize = [$(stringify!($folder)),*].len();

        /// What detectors need only during a scan, by their folders.
        #[derive(Debug)]
        pub struct DetectorScratch {
            $($folder: <$detector as Detector>::Scratch,)*
        }

        impl DetectorScratch {
            /// [`Detector::scratch`] of each.
            pub fn new(limits: &Limits) -> Self {
                Self { $($folder: <$detector as Detector>::scratch(limits),)* }
            }
        }

        /// The detectors that allocate more if these activities are reported.
        pub fn with_memory(is_enabled: &dyn Fn(Activity) -> bool) -> DetectorNames {
            let all = [$((
                stringify!($folder),
                <$detector as Detector>::needs_memory(is_enabled),
            )),*];
            all.into_iter().filter(|(_, is_on)| *is_on).map(|(folder, _)| folder).collect()
        }

        /// The gaps of each detector, by its folder.
        #[expect(non_upper_case_globals, reason = "they are named like the fields")]
        impl Detectors {
            $(const $folder: &'static [GapKind] = <$detector as Detector>::GAPS;)*
        }

        /// The gaps of all detectors.
        pub const DETECTOR_GAPS: [GapKind; 0 $(+ Detectors::$with_gaps.len())*] =
            joined(&[$(Detectors::$with_gaps),*]);

        impl Detectors {
            /// [`Detector::losses`] of each, in the order of [`DETECTOR_GAPS`].
            pub fn losses(&mut self) -> DetectorLosses<'_> {
                let mut losses = DetectorLosses::new();
                // Each detector has as many losses as gaps: a test counts them.
                $(self.$with_gaps.losses(&mut |loss| _ = losses.try_push(loss));)*
                losses
            }

            /// [`Detector::update`] of each, until `must_stop` returns `true`. Returns whether it
            /// did not.
            pub fn update_unless(
                &mut self,
                must_stop: &dyn Fn() -> bool,
                context: &mut DetectorContext<'_>,
                state: &MachineState,
                files: &mut dyn ContentSource,
            ) -> bool {
                $(if !must_stop() {
                    self.$folder.update(context, state, files);
                })*
                !must_stop()
            }

            /// [`Detector::build`] of each.
            pub fn build(setup: &DetectorSetup<'_>) -> Self {
                Self { $($folder: Detector::build(setup),)* }
            }

            /// [`Detector::set_rules`] of each.
            pub fn set_rules(&mut self, rules: &DetectorRules<'_>) {
                $(self.$folder.set_rules(rules);)*
            }

            /// [`Detector::set_shipped`] of each.
            pub fn set_shipped(&mut self, shipped: &Arc<ShippedFiles>) {
                $(self.$folder.set_shipped(shipped);)*
            }

            /// [`Detector::set_images`] of each.
            pub fn set_images(&mut self, images: &Images) {
                $(self.$folder.set_images(images);)*
            }

            /// [`Detector::exchange`] of each.
            pub fn exchange(&mut self, scratch: &mut DetectorScratch) {
                $(self.$folder.exchange(&mut scratch.$folder);)*
            }

            /// Whether [`Detector::waits_for_next`] of one is `true`.
            pub fn waits_for_next(&self) -> bool {
                [$(self.$folder.waits_for_next()),*].contains(&true)
            }

            /// Whether [`Detector::waits_for_all`] of one is `true`.
            pub fn waits_for_all(&self) -> bool {
                [$(self.$folder.waits_for_all()),*].contains(&true)
            }

            /// [`Detector::begin_scan`] of each.
            pub fn begin_scan(&mut self) {
                $(self.$folder.begin_scan();)*
            }

            /// [`Detector::observe`] of each.
            pub fn observe(&mut self, context: &mut DetectorContext<'_>, change: &Change<'_>) {
                $(self.$folder.observe(context, change);)*
            }

            /// [`Detector::settle`] of each.
            pub fn settle(
                &mut self,
                context: &mut DetectorContext<'_>,
                files: &mut dyn ContentSource,
            ) {
                $(self.$folder.settle(context, files);)*
            }

            /// [`Detector::finish`] of each.
            pub fn finish(
                &mut self,
                cx: &ScanContext<'_>,
                out: &mut dyn Findings,
                state: &MachineState,
                files: &mut dyn ContentSource,
            ) -> u64 {
                [$(self.$folder.finish(cx, out, state, files),)*].into_iter().sum()
            }
        }
    };
}

detectors! {
    steps {
        binary_attestation: binary_attestation::BinaryAttestation,
        reverse_shells: reverse_shells::ReverseShells,
        file_content: file_content::FileContent,
        shell_history: shell_history::ShellHistory,
        memory_permissions: memory_permissions::MemoryPermissions,
        hidden_connections: hidden_connections::HiddenConnections,
    }
    gaps {
        file_content
        binary_attestation
        reverse_shells
        shell_history
        memory_permissions
        hidden_connections
    }
}
