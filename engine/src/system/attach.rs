//! Attaches to a machine: its memory goes in, the verified profile of its kernel comes out.
//!
//! Not here: opening the memory, and messages or records about the result.

use panoptes_decoders::source::MachineSource;
use panoptes_profiles::{
    DiscoveryError, DiscoveryOptions, DiscoveryProgress, Profile, discover, mapped_share, modules,
};

use super::stop::{Stop, Stoppable};

/// The share of a region that a kernel maps if the layout is correct: firmware reserves a few MiB.
const SHARE_ENOUGH: f64 = 0.9;

/// Why a machine cannot be attached to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AttachError {
    #[error("{0}")]
    NoKernel(#[source] DiscoveryError),
    #[error("the machine ended during the search for its kernel")]
    Ended,
    #[error("the search for the kernel was stopped on request")]
    Stopped,
}

/// Finds and verifies the kernel in a machine's memory, and binds the types of its modules to it.
///
/// # Errors
///
/// No kernel was found, the machine ended meanwhile, or the caller requested to stop.
pub fn attach(
    source: &mut dyn MachineSource,
    options: &DiscoveryOptions<'_>,
    progress: &mut dyn DiscoveryProgress,
    stop: Stop<'_>,
) -> Result<Profile, AttachError> {
    let found = find_kernel(source, options, progress, stop);
    // Check even if a kernel was found: memory of a machine that has ended may belong to another.
    source.refresh();
    if source.has_ended() {
        return Err(AttachError::Ended);
    }
    let mut profile = found?;
    // Layouts that only loaded modules have. Without them, scans use a fallback.
    modules::bind(&mut Stoppable { source, stop }, &mut profile);
    if stop.is_requested() { Err(AttachError::Stopped) } else { Ok(profile) }
}

/// Finds and verifies the kernel in a machine's memory; switches `source` to the layout that has
/// it.
///
/// # Errors
///
/// No kernel was found in any layout, or the caller requested to stop.
pub fn find_kernel(
    source: &mut dyn MachineSource,
    options: &DiscoveryOptions<'_>,
    progress: &mut dyn DiscoveryProgress,
    stop: Stop<'_>,
) -> Result<Profile, AttachError> {
    let mut find = |source: &mut dyn MachineSource, options: &DiscoveryOptions<'_>| {
        let found = discover(&mut Stoppable { source, stop }, options, progress);
        // A sweep that was stopped found less than there is.
        if stop.is_requested() {
            return Err(AttachError::Stopped);
        }
        found.map_err(AttachError::NoKernel)
    };
    let layouts = source.layouts();
    if layouts == 1 {
        return find(source, options);
    }
    // The source does not define the addresses of its memory, so each layout is tried: first only
    // the usual places of a kernel, then all of memory.
    let mut best: Option<(f64, usize, Profile)> = None;
    let mut failure = None;
    for everywhere in [false, true] {
        let options = DiscoveryOptions { everywhere, ..*options };
        for index in 0..layouts {
            source.choose_layout(index);
            match find(source, &options) {
                Ok(profile) => {
                    let share = mapped_share(source, &profile);
                    if share > SHARE_ENOUGH {
                        return Ok(profile);
                    }
                    if best.as_ref().is_none_or(|(most, ..)| share > *most) {
                        best = Some((share, index, profile));
                    }
                }
                Err(AttachError::NoKernel(error)) => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        // A kernel that is configured to use only a part of the memory maps no more in any layout.
        if let Some((_, index, profile)) = best {
            source.choose_layout(index);
            return Ok(profile);
        }
    }
    source.choose_layout(0);
    // No layout has a kernel, so there was at least one failure.
    failure.map_or_else(|| find(source, options), |error| Err(AttachError::NoKernel(error)))
}
