//! The steps of a release, and the files that each adds to the page.

use clap::ValueEnum;
use panoptes_rig::Architecture;

use crate::platform::STATIC;

/// The version of this release.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The file with the sums of all others.
pub(super) const SUMS: &str = "SHA256SUMS";
/// Its signature, as ssh-keygen(1) names it.
pub(super) const SIGNATURE: &str = "SHA256SUMS.sig";

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ReleaseStep {
    /// Static programs for amd64 and arm64, each with its configuration, pages and units
    Static,
    /// Debian packages for both
    Deb,
    /// RPM packages for both
    Rpm,
    /// The container image for amd64, as an archive
    Image,
    /// Manual pages and completions
    Manual,
    /// The documentation as a book
    Book,
    /// The SBOM of the program, by CycloneDX
    Sbom,
    /// SHA-256 sums of all files, and their signature
    Sums,
    /// Try what was made on this machine
    Trial,
}

impl ReleaseStep {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 9] = [
        Self::Static,
        Self::Deb,
        Self::Rpm,
        Self::Image,
        Self::Manual,
        Self::Book,
        Self::Sbom,
        Self::Sums,
        Self::Trial,
    ];

    /// The name for `--only`.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it makes files of sources. The others follow, once.
    pub(super) const fn is_build(self) -> bool {
        !matches!(self, Self::Sums | Self::Trial)
    }

    /// The files that it makes.
    pub(super) fn files(self) -> Vec<String> {
        match self {
            Self::Static => STATIC.map(|(_, triple)| compressed(triple)).into(),
            Self::Deb => {
                ["amd64", "arm64"].map(|it| format!("panoptes_{VERSION}-1_{it}.deb")).into()
            }
            Self::Rpm => rpms().map(|(_, name)| name).into(),
            Self::Image => vec![format!("{}.oci.tar", folder("amd64"))],
            Self::Manual => ["man", "completions"].map(compressed).into(),
            Self::Book => vec![compressed("book")],
            Self::Sbom => vec![format!("panoptes-{VERSION}.cdx.json")],
            Self::Sums => vec![SUMS.to_owned()],
            Self::Trial => Vec::new(),
        }
    }
}

/// The RPM packages, which name architectures as rpm does.
pub(super) fn rpms() -> [(Architecture, String); 2] {
    let names = [(Architecture::Amd64, "x86_64"), (Architecture::Arm64, "aarch64")];
    names.map(|(architecture, name)| (architecture, format!("panoptes-{VERSION}-1.{name}.rpm")))
}

/// The folder in an archive.
pub(super) fn folder(content: &str) -> String {
    format!("panoptes-{VERSION}-{content}")
}

/// The name of such an archive.
pub(super) fn compressed(content: &str) -> String {
    format!("{}.tar.gz", folder(content))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_page_has_every_file_once() {
        let all: Vec<String> = ReleaseStep::ALL.into_iter().flat_map(ReleaseStep::files).collect();
        let names: BTreeSet<&String> = all.iter().collect();
        assert_eq!(names.len(), all.len(), "{all:?}");
        for name in [
            "panoptes-X-x86_64-unknown-linux-musl.tar.gz",
            "panoptes-X-aarch64-unknown-linux-musl.tar.gz",
            "panoptes_X-1_amd64.deb",
            "panoptes_X-1_arm64.deb",
            "panoptes-X-1.x86_64.rpm",
            "panoptes-X-1.aarch64.rpm",
            "panoptes-X-amd64.oci.tar",
            "panoptes-X-man.tar.gz",
            "panoptes-X-completions.tar.gz",
            "panoptes-X-book.tar.gz",
            "panoptes-X.cdx.json",
            "SHA256SUMS",
        ] {
            assert!(names.contains(&name.replace('X', VERSION)), "{name}: {all:?}");
        }
        assert_eq!(all.len(), 12);
    }

    #[test]
    fn steps_come_in_their_order() {
        assert_eq!(ReleaseStep::value_variants(), ReleaseStep::ALL);
        assert_eq!(ReleaseStep::Sbom.name(), "sbom");
        assert_eq!(SIGNATURE.strip_suffix(".sig"), Some(SUMS));
    }
}
