//! The stored profiles that may fit a candidate.

use crate::builtin;
use crate::discovery::DiscoveryOptions;
use crate::discovery::candidate::KernelCandidate;
use crate::report::LayoutOrigin;
use crate::stored::StoredProfile;

/// Maximum number of stored profiles that are tried for a kernel: each costs milliseconds.
const STORED_MAX: usize = 16;

/// Whether a stored profile is that of the candidate's build. One without a build id is for every
/// kernel of its release, as its user wants.
pub(super) fn is_sure(origin: &LayoutOrigin, candidate: &KernelCandidate) -> bool {
    let says_release = matches!(origin, LayoutOrigin::File { build_id } if build_id.is_empty());
    says_release || candidate.build_id.is_some()
}

/// The stored profiles for a candidate, in the order in which they are tried, and how many more
/// there are.
///
/// A kernel without VMCOREINFO shows no build id. Then every profile of its release is tried, and
/// verification decides.
pub(super) fn stored_for<'o>(
    options: &DiscoveryOptions<'o>,
    candidate: &KernelCandidate,
) -> (Vec<(LayoutOrigin, &'o dyn StoredProfile)>, usize) {
    let build_id = candidate.build_id.as_deref();
    // Files that the user named take precedence over built-in tables.
    let files = options.files.iter().filter(|file| {
        // An ISF and a profile of headers have no build id.
        let same_build =
            file.build_id.is_empty() || build_id.is_none_or(|build_id| build_id == file.build_id);
        same_build && file.release == candidate.release
    });
    let files = files.map(|file| {
        (LayoutOrigin::File { build_id: file.build_id.clone() }, file as &'o dyn StoredProfile)
    });
    let tables = options
        .use_builtin
        .then(|| builtin::find(build_id, &candidate.release))
        .into_iter()
        .flatten()
        .map(|table| {
            (LayoutOrigin::BuiltIn { build_id: table.build_id }, table as &'o dyn StoredProfile)
        });
    let mut stored: Vec<_> = files.chain(tables).collect();
    let left_out = stored.len().saturating_sub(STORED_MAX);
    stored.truncate(STORED_MAX);
    (stored, left_out)
}
