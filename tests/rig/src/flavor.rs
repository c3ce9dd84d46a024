//! The kernels that the rig knows: a series, a build and an architecture of Debian's.
//!
//! Fetching them is in `kernel`.

use crate::error::{Error, Result};

/// A kernel for tests: Debian's newest of a series, in one of its builds, for one architecture.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Flavor {
    pub series: Series,
    pub build: Build,
    pub architecture: Architecture,
}

/// A series of kernels, by the Debian release or the suite that carries it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Series {
    /// Debian 11's.
    V5_10,
    /// Debian 12's.
    V6_1,
    /// Debian 13's.
    V6_12,
    /// Debian unstable's, whatever version 7 it has today; Debian 14 will have this series.
    V7,
    /// A series of Debian 13's backports, by the beginning of its releases (`6.18`).
    Backport(&'static str),
    /// The kernel of another distribution, unpacked by hand.
    Unpacked,
}

/// Debian's configuration of a kernel.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Build {
    /// For any machine.
    Generic,
    /// For guests: fewer drivers.
    Cloud,
    /// With `PREEMPT_RT`.
    RealTime,
    /// With pages of 16 KiB.
    Pages16Kib,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Architecture {
    Amd64,
    Arm64,
}

impl Flavor {
    /// Debian 11's generic kernel for x86-64.
    pub const V5_10: Self = Self::amd64(Series::V5_10, Build::Generic);
    /// Debian 12's generic kernel for x86-64.
    pub const V6_1: Self = Self::amd64(Series::V6_1, Build::Generic);
    /// Debian 13's generic kernel for x86-64.
    pub const V6_12: Self = Self::amd64(Series::V6_12, Build::Generic);
    /// Debian unstable's generic kernel for x86-64.
    pub const V7: Self = Self::amd64(Series::V7, Build::Generic);

    /// Every kernel that the rig can boot.
    pub const ALL: &[Self] = &[
        Self::V5_10,
        Self::amd64(Series::V5_10, Build::Cloud),
        Self::V6_1,
        Self::amd64(Series::V6_1, Build::Cloud),
        Self::V6_12,
        Self::amd64(Series::V6_12, Build::Cloud),
        Self::amd64(Series::V6_12, Build::RealTime),
        Self::V7,
        Self::amd64(Series::V7, Build::Cloud),
        Self::arm64(Series::V6_1, Build::Generic),
        Self::arm64(Series::V6_1, Build::Cloud),
        Self::arm64(Series::V6_12, Build::Generic),
        Self::arm64(Series::V6_12, Build::Cloud),
        Self::arm64(Series::V6_12, Build::Pages16Kib),
        Self::arm64(Series::V7, Build::Generic),
        Self::arm64(Series::V7, Build::Pages16Kib),
    ];

    /// Kernels between those of Debian's releases, and newer ones. A mirror that has removed an old
    /// backport lacks it, so only `cargo xtask kernels --backports` boots them.
    pub const BACKPORTS: &[Self] = &[
        Self::amd64(Series::Backport("6.16"), Build::Generic),
        Self::amd64(Series::Backport("6.17"), Build::Generic),
        Self::amd64(Series::Backport("6.18"), Build::Generic),
        Self::amd64(Series::Backport("6.19"), Build::Generic),
        Self::amd64(Series::Backport("7.0"), Build::Generic),
        Self::amd64(Series::Backport("7.1"), Build::Generic),
        Self::amd64(Series::Backport("7.2"), Build::Generic),
        Self::amd64(Series::Backport("7.3"), Build::Generic),
        Self::amd64(Series::Backport("7.3"), Build::Cloud),
        Self::amd64(Series::Backport("7.3"), Build::RealTime),
    ];

    /// A kernel of another distribution, unpacked by hand.
    pub(crate) const UNPACKED: Self = Self::amd64(Series::Unpacked, Build::Generic);

    /// The kernels of `cargo xtask test`.
    pub const EVERY_DAY: &[Self] = &[Self::V5_10, Self::V6_1, Self::V6_12, Self::V7];

    const fn amd64(series: Series, build: Build) -> Self {
        Self { series, build, architecture: Architecture::Amd64 }
    }

    const fn arm64(series: Series, build: Build) -> Self {
        Self { series, build, architecture: Architecture::Arm64 }
    }

    /// The name on command lines: `6.1`, `6.12-rt`, `7-cloud`; the architecture is included unless
    /// it is amd64.
    pub fn name(self) -> String {
        let architecture = match self.architecture {
            Architecture::Amd64 => "",
            Architecture::Arm64 => "-arm64",
        };
        let (infix, suffix) = (self.build.infix(), self.build.suffix());
        format!("{}{infix}{architecture}{suffix}", self.series.name())
    }

    pub fn from_name(name: &str) -> Result<Self> {
        let all = || Self::ALL.iter().chain(Self::BACKPORTS);
        all().copied().find(|flavor| flavor.name() == name).ok_or_else(|| {
            let known: Vec<_> = all().map(|flavor| flavor.name()).collect();
            Error::new(format!("no kernel {name:?}; known are: {}", known.join(", ")))
        })
    }

    /// Whether a kernel release (`uname -r`) is of this series, build and architecture.
    pub(crate) fn owns(self, release: &str) -> bool {
        let (infix, suffix) = (self.build.infix(), self.build.suffix());
        let suffix = format!("{infix}-{}{suffix}", self.architecture.debian());
        let Some(version) = release.strip_suffix(&suffix) else { return false };
        // The rest must be numbers, and words such as `+deb13`; no other build, and no backport.
        let other = version.split(['-', '+', '~']).any(|word| {
            ["cloud", "rt", "unsigned", "dbg"].contains(&word) || word.starts_with("bpo")
        });
        version.starts_with(&format!("{}.", self.series.name())) && !other
    }
}

impl Series {
    /// The beginning of its releases.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7",
            Self::Backport(name) => name,
            Self::Unpacked => "unpacked",
        }
    }

    /// Whether Debian 13's backports have it.
    pub const fn is_backport(self) -> bool {
        matches!(self, Self::Backport(_))
    }
}

impl Build {
    /// Its name in a release, before the architecture.
    const fn infix(self) -> &'static str {
        match self {
            Self::Generic | Self::Pages16Kib => "",
            Self::Cloud => "-cloud",
            Self::RealTime => "-rt",
        }
    }

    /// Its name in a release, after the architecture.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Generic | Self::Cloud | Self::RealTime => "",
            Self::Pages16Kib => "-16k",
        }
    }
}

impl Architecture {
    /// Debian's name for it.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The emulator of its machines.
    pub(crate) const fn emulator(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-system-x86_64",
            Self::Arm64 => "qemu-system-aarch64",
        }
    }

    /// What compiles the agent of its guests.
    pub(crate) const fn agent_needs(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => {
                &["gcc", "/usr/lib/x86_64-linux-gnu/libc.a", "/usr/include/linux/inet_diag.h"]
            }
            Self::Arm64 => &[
                "aarch64-linux-gnu-gcc",
                "/usr/aarch64-linux-gnu/lib/libc.a",
                "/usr/aarch64-linux-gnu/include/linux/inet_diag.h",
            ],
        }
    }

    pub(crate) const fn emulator_package(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-system-x86",
            Self::Arm64 => "qemu-system-arm",
        }
    }

    /// The C compiler, on an x86-64 host.
    pub(crate) const fn compiler(self) -> &'static str {
        match self {
            Self::Amd64 => "gcc",
            Self::Arm64 => "aarch64-linux-gnu-gcc",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_belongs_to_one_flavor() {
        let cases = [
            ("5.10.0-32-amd64", "5.10"),
            ("6.1.0-50-amd64", "6.1"),
            ("6.1.0-50-cloud-amd64", "6.1-cloud"),
            ("6.12.107+deb13-amd64", "6.12"),
            ("6.12.107+deb13-rt-amd64", "6.12-rt"),
            ("7.2.13+deb14-cloud-amd64", "7-cloud"),
            ("6.1.0-50-cloud-arm64", "6.1-cloud-arm64"),
            ("6.12.107+deb13-arm64", "6.12-arm64"),
            ("6.12.107+deb13-arm64-16k", "6.12-arm64-16k"),
        ];
        for (release, name) in cases {
            let owners: Vec<_> =
                Flavor::ALL.iter().filter(|f| f.owns(release)).map(|f| f.name()).collect();
            assert_eq!(owners, [name], "{release}");
            assert!(Flavor::from_name(name).unwrap().owns(release));
        }
    }

    #[test]
    fn a_backport_belongs_to_one_flavor_of_its_series() {
        let cases = [
            ("6.16.12+deb13-amd64", "6.16"),
            ("7.0.13+deb13-amd64", "7.0"),
            ("7.3.4+deb13-amd64", "7.3"),
            ("7.3.4+deb13-cloud-amd64", "7.3-cloud"),
            ("7.3.4+deb13-rt-amd64", "7.3-rt"),
        ];
        for (release, name) in cases {
            let owners: Vec<_> =
                Flavor::BACKPORTS.iter().filter(|f| f.owns(release)).map(|f| f.name()).collect();
            assert_eq!(owners, [name], "{release}");
            assert_eq!(Flavor::from_name(name).unwrap().name(), name);
        }
    }

    #[test]
    fn other_builds_belong_to_none() {
        for release in ["6.1.0-50-amd64-unsigned", "6.12.9+bpo-amd64", "6.12.107+deb13-amd64-dbg"] {
            assert!(Flavor::ALL.iter().all(|flavor| !flavor.owns(release)), "{release}");
        }
    }
}
