//! [`DocaError`]: what the DOCA library refused, in its own words.

use std::fmt;
use std::path::PathBuf;

use super::bindings;

/// Why memory can't be reached through DOCA.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DocaError {
    /// The library is not there, or can't be loaded.
    Load {
        /// What the dynamic linker says.
        reason: String,
    },
    /// A library was loaded that lacks a function.
    Symbol {
        /// The first function that is missing.
        name: String,
        /// What the library says its version is, if it does.
        version: Option<String>,
    },
    /// A call failed.
    Call {
        /// The function.
        name: &'static str,
        /// Its `doca_error_t`.
        code: u32,
        /// What the library says that means.
        description: String,
    },
    /// There is no DMA device of that name.
    Device {
        /// What was asked for.
        wanted: String,
        /// Those that there are.
        found: Vec<String>,
    },
    /// The device has no representor of that VUID.
    Representor {
        /// The device.
        device: String,
        /// What was asked for.
        wanted: String,
        /// How many it has.
        found: usize,
    },
    /// The device copies no memory.
    NoDma {
        /// The device.
        device: String,
    },
    /// The machine's memory regions are needed and not known.
    Regions,
    /// The regions are no regions.
    BadRegions {
        /// The first that is wrong.
        index: usize,
    },
    /// Too little memory here for the buffers.
    Buffers {
        /// How many bytes were asked for.
        bytes: usize,
    },
}

impl DocaError {
    /// Whether it is for want of a permission.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Call { code: bindings::DOCA_ERROR_NOT_PERMITTED, .. })
    }

    /// The folder where DOCA's packages put their libraries.
    pub(super) fn usual_folder() -> PathBuf {
        PathBuf::from(format!("/opt/mellanox/doca/lib/{}-linux-gnu", std::env::consts::ARCH))
    }
}

impl fmt::Display for DocaError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { reason } => write!(
                out,
                "cannot load NVIDIA DOCA ({reason}): install DOCA 2.5 or later on this BlueField, or say where it is \
                 with service.doca_library_path"
            ),
            Self::Symbol { name, version } => {
                write!(out, "the DOCA library")?;
                if let Some(version) = version {
                    write!(out, " {version}")?;
                }
                write!(out, " has no {name}: DOCA 2.5 or later is needed, with its DMA library")?;
                if name.contains("devemu") {
                    write!(
                        out,
                        " and, to read a host's memory, its device emulation library (2.7)"
                    )?;
                }
                Ok(())
            }
            Self::Call { name, code, description } => {
                write!(out, "{name} failed: {description} (DOCA error {code})")
            }
            Self::Device { wanted, found } if found.is_empty() => {
                write!(
                    out,
                    "there is no DMA device {wanted}: DOCA finds no device at all on this machine"
                )
            }
            Self::Device { wanted, found } => {
                write!(out, "there is no DMA device {wanted}; there are {}", found.join(", "))
            }
            Self::Representor { device, wanted, found } => write!(
                out,
                "the DMA device {device} has no function with the VUID {wanted} among its {found}; `panoptes systems` \
                 lists them"
            ),
            Self::NoDma { device } => write!(
                out,
                "the device {device} copies no memory: DOCA DMA needs a BlueField in DPU mode"
            ),
            Self::Regions => write!(
                out,
                "where the host's memory lies is not known: give memory_regions_path, made on the host by \
                 doca_apsh_config.py --files memregions"
            ),
            Self::BadRegions { index } => write!(
                out,
                "memory region {index} is empty, too large, not in whole pages, or begins before the one before it ends"
            ),
            Self::Buffers { bytes } => {
                write!(out, "there is no memory for {bytes} bytes of buffers")
            }
        }
    }
}

impl std::error::Error for DocaError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_line_and_says_what_to_do() {
        let name = "doca_devemu_pci_dev_create".to_owned();
        let errors = [
            DocaError::Load { reason: "no such file".to_owned() },
            DocaError::Symbol { name, version: Some("2.2.0".to_owned()) },
            DocaError::Device { wanted: "mlx5_9".to_owned(), found: vec![] },
            DocaError::Device { wanted: "mlx5_9".to_owned(), found: vec!["mlx5_0".to_owned()] },
            DocaError::Representor { device: "d".to_owned(), wanted: "v".to_owned(), found: 2 },
            DocaError::NoDma { device: "d".to_owned() },
            DocaError::Regions,
            DocaError::BadRegions { index: 3 },
            DocaError::Buffers { bytes: 1 },
        ];
        for error in errors {
            let message = error.to_string();
            assert!(!message.contains('\n') && !message.contains("  "), "{message}");
        }
    }
}
