//! [`DocaError`]: why memory cannot be read through DOCA, with the library's own description.

use std::path::PathBuf;

use super::bindings;

/// Why memory cannot be read through DOCA.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DocaError {
    /// The library cannot be loaded; `reason` is the dynamic linker's.
    #[error(
        "cannot load NVIDIA DOCA ({reason}): install DOCA 2.5 or later on this BlueField, \
         or set service.doca_library_path"
    )]
    Load { reason: String },
    /// The loaded library lacks a function: `name` is the first one.
    #[error("{}", missing_symbol(name, version.as_deref()))]
    Symbol {
        name: String,
        /// Version of the library, if it has the function for it.
        version: Option<String>,
    },
    #[error("{name} failed: {description} (DOCA error {code})")]
    Call {
        /// Name of the function.
        name: &'static str,
        /// The `doca_error_t` that it returned.
        code: u32,
        /// The library's description of the code.
        description: String,
    },
    /// No DMA device has this name; `found` are the names of those that exist.
    #[error("there is no DMA device {wanted}{}", others(found))]
    Device { wanted: String, found: Vec<String> },
    /// The device has no representor with this VUID; `found` is the number of those that it has.
    #[error(
        "the DMA device {device} has no function with the VUID {wanted} among its {found}; \
         `panoptes systems` lists them"
    )]
    Representor { device: String, wanted: String, found: usize },
    #[error("the device {device} copies no memory: DOCA DMA needs a BlueField in DPU mode")]
    NoDma { device: String },
    #[error(
        "the host's memory regions are unknown: give memory_regions_path, made on the host \
         by doca_apsh_config.py --files memregions"
    )]
    Regions,
    /// The regions are invalid; `index` is that of the first invalid one.
    #[error(
        "memory region {index} is empty, too large, or begins before the previous one \
         ends, or there are too many"
    )]
    BadRegions { index: usize },
    /// The function has left `contexts` contexts behind that the device does not stop.
    #[error(
        "the DMA device {device} has not stopped {contexts} earlier contexts of this function yet, \
         and they keep their buffers: reset the device if it does not recover"
    )]
    Stuck { device: String, contexts: usize },
    #[error("cannot allocate {bytes} bytes of buffers")]
    Buffers { bytes: usize },
}

/// The message of [`DocaError::Symbol`].
fn missing_symbol(name: &str, version: Option<&str>) -> String {
    let version = version.map(|version| format!(" {version}")).unwrap_or_default();
    let emulation = if name.contains("devemu") {
        " and, to read a host's memory, its device emulation library (2.7)"
    } else {
        ""
    };
    format!(
        "the DOCA library{version} has no {name}: DOCA 2.5 or later is needed, with its DMA \
         library{emulation}"
    )
}

/// The end of the message of [`DocaError::Device`].
fn others(found: &[String]) -> String {
    if found.is_empty() {
        return ": DOCA finds no device at all on this machine".to_owned();
    }
    format!("; there are {}", found.join(", "))
}

impl DocaError {
    /// Whether a permission is missing.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Call { code: bindings::DOCA_ERROR_NOT_PERMITTED, .. })
    }

    /// The folder of the libraries of DOCA's packages.
    pub(super) fn usual_folder() -> PathBuf {
        PathBuf::from(format!("/opt/mellanox/doca/lib/{}-linux-gnu", std::env::consts::ARCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_line() {
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
            DocaError::Stuck { device: "d".to_owned(), contexts: 2 },
            DocaError::Buffers { bytes: 1 },
        ];
        for error in errors {
            let message = error.to_string();
            assert!(!message.contains('\n') && !message.contains("  "), "{message}");
        }
    }
}
