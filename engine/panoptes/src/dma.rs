//! Memory behind a BlueField's DMA engine: opens `doca:DEVICE/VUID`, and lists these addresses.
//!
//! Not for: reading the memory (`panoptes_sources::doca`). **This code has not been tested with
//! a BlueField yet.**

use std::fmt;
use std::path::Path;

use panoptes_sources::AnySource;

use crate::config::{AutoOr, Service, SystemAddress, SystemSettings};
use crate::exit::{Exit, Failure};

/// The result of the search for a machine's memory regions.
#[derive(Debug)]
pub enum Regions {
    Found {
        count: usize,
        /// The sum of all regions.
        bytes: u64,
        /// The file that lists the regions; `None`: they come from the machine's own tables.
        file: Option<String>,
    },
    NotFound {
        reason: String,
    },
}

impl fmt::Display for Regions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { count, bytes, file } => {
                write!(out, "{} MiB of memory in {count} regions, ", bytes >> 20)?;
                match file {
                    Some(file) => write!(out, "from {file}"),
                    None => write!(out, "from the machine's own page tables"),
                }
            }
            Self::NotFound { reason } => out.write_str(reason),
        }
    }
}

/// A function with the address `doca:DEVICE/VUID`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Function {
    /// The DMA device.
    pub device: String,
    /// The vendor unique id.
    pub vuid: String,
    /// PF, VF or SF.
    pub kind: Option<String>,
    /// The PCI address on the host.
    pub pci_address: Option<String>,
    /// Why the function cannot be watched.
    pub obstacle: Option<String>,
}

impl Function {
    /// Whether it is a PF.
    pub fn is_physical(&self) -> bool {
        self.kind.as_deref() == Some("PF")
    }
}

/// The functions that DOCA lists on this machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DocaFunctionList {
    /// DOCA's version; `None`: it is unknown, or DOCA is not installed.
    pub version: Option<String>,
    /// All functions of all devices.
    pub functions: Vec<Function>,
    /// Why there are no functions.
    pub obstacle: Option<String>,
    /// Devices whose functions could not be listed; `None`: no device could.
    pub unlisted: Option<Vec<String>>,
    /// What was left out of the list.
    pub left_out: Vec<String>,
}

impl DocaFunctionList {
    /// Whether the list does not exclude that there is such a function.
    pub fn may_have(&self, address: &SystemAddress) -> bool {
        let (SystemAddress::Doca { device, vuid }, Some(unlisted)) = (address, &self.unlisted)
        else {
            return true;
        };
        let is_it = |one: &Function| one.device == *device && one.vuid == *vuid;
        unlisted.contains(device) || self.functions.iter().any(is_it)
    }

    /// Why functions cannot be watched, each reason once.
    pub fn obstacles(&self) -> Option<String> {
        let of_functions = self.functions.iter().filter_map(|function| function.obstacle.as_ref());
        let mut reasons: Vec<&str> = Vec::new();
        for reason in self.obstacle.iter().chain(&self.left_out).chain(of_functions) {
            if !reasons.contains(&reason.as_str()) && reasons.len() < NAMED_REASONS_MAX {
                reasons.push(reason);
            }
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// Maximum number of reasons in one report.
const NAMED_REASONS_MAX: usize = 16;

/// Reads the memory regions of a machine from a file.
pub fn regions_file(path: &Path) -> Result<Vec<std::ops::Range<u64>>, Failure> {
    use panoptes_profiles::memory_regions::{FILE_BYTES_MAX, RegionsError, parse};
    use std::io::{ErrorKind, Read as _};
    let wrong = |error: &dyn fmt::Display| format!("memory regions {}: {error}", path.display());
    let mut bytes = Vec::new();
    std::fs::metadata(path)
        .and_then(|facts| {
            // Opening a pipe would wait for a writer, and a device may do anything.
            if facts.is_file() {
                std::fs::File::open(path)
            } else {
                Err(std::io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"))
            }
        })
        .and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::new(Exit::from_io(&error, Exit::Source), wrong(&error)))?;
    parse(&bytes).map_err(|error: RegionsError| Failure::new(Exit::Configuration, wrong(&error)))
}

/// Opens the memory of a function; `report` receives the result of finding its memory regions.
#[cfg(feature = "doca")]
pub fn open(
    device: &str,
    vuid: &str,
    settings: &SystemSettings,
    service: &Service,
    report: &mut dyn FnMut(&Regions),
) -> Result<AnySource, Failure> {
    use panoptes_sources::doca::{DocaError, DocaMemory, Library, PATIENCE};
    use panoptes_sources::{MemorySource as _, SourceError};

    let failure = |error: DocaError| Failure::from(SourceError::from(error));
    let (given, file) = match &settings.memory_regions_path {
        AutoOr::Auto => (None, None),
        AutoOr::Given(path) => match regions_file(path) {
            Ok(regions) => (Some(regions), Some(path.display().to_string())),
            Err(failure) => {
                report(&Regions::NotFound { reason: failure.to_string() });
                return Err(failure);
            }
        },
    };
    let library = Library::load(service.doca_library_path.as_deref()).map_err(failure)?;
    if let Some(level) = settings.sdk_log_level {
        library.log_to_stderr(level as u32);
    }
    let opened = match &given {
        Some(regions) => DocaMemory::open(&library, device, vuid, regions, PATIENCE),
        None => DocaMemory::open_anywhere(&library, device, vuid, PATIENCE),
    };
    let source = opened.map_err(|error| {
        if matches!(error, DocaError::Regions | DocaError::BadRegions { .. }) {
            report(&Regions::NotFound { reason: error.to_string() });
        }
        failure(error)
    })?;
    let count = source.regions().len();
    let bytes = source.regions().iter().map(|region| region.end - region.start).sum();
    report(&Regions::Found { count, bytes, file });
    Ok(AnySource::Doca(Box::new(source)))
}

/// Whether functions can be listed: the path of NVIDIA's library is configured, or the library can
/// be loaded.
#[cfg(feature = "doca")]
pub fn is_installed(library_path: Option<&Path>) -> bool {
    library_path.is_some() || panoptes_sources::doca::Library::load(None).is_ok()
}

/// Maximum number of listed functions.
#[cfg(feature = "doca")]
const LISTED_FUNCTIONS_MAX: usize = 1024;

/// Lists the functions of all DMA devices.
#[cfg(feature = "doca")]
pub fn find(library_path: Option<&Path>) -> DocaFunctionList {
    use panoptes_sources::doca::{Library, devices};

    let none = |version: Option<String>, obstacle: String| DocaFunctionList {
        version,
        obstacle: Some(obstacle),
        ..DocaFunctionList::default()
    };
    let library = match Library::load(library_path) {
        Ok(library) => library,
        Err(error) => return none(None, error.to_string()),
    };
    let version = library.version().map(str::to_owned);
    let found = match devices(&library) {
        Ok(found) => found,
        Err(error) => return none(version, error.to_string()),
    };
    let mut functions: Vec<Function> = Vec::new();
    let (mut unlisted, mut left_out) = (Vec::new(), Vec::new());
    let mut obstacle = found.is_empty().then(|| "DOCA finds no device on this machine".to_owned());
    for device in found {
        let mute =
            (!device.copies_memory).then(|| format!("the device {} copies no memory", device.name));
        match device.functions {
            Ok(list) => {
                if device.left_out > 0 {
                    let (name, count) = (&device.name, device.left_out);
                    left_out.push(format!("the device {name} lists {count} functions too many"));
                }
                for function in list {
                    let (name, vuid) = (&device.name, function.vuid);
                    // A device can be listed several times.
                    let is_it = |one: &Function| one.device == *name && one.vuid == vuid;
                    if functions.iter().any(is_it) {
                        continue;
                    }
                    if functions.len() >= LISTED_FUNCTIONS_MAX {
                        left_out
                            .push(format!("there are more than {LISTED_FUNCTIONS_MAX} functions"));
                        break;
                    }
                    let obstacle = match SystemAddress::doca_from_parts(name, &vuid) {
                        Some(_) => mute.clone(),
                        None => Some(format!("{name} has a function whose name is no address")),
                    };
                    functions.push(Function {
                        device: name.clone(),
                        vuid,
                        kind: function.kind.map(|kind| kind.to_string()),
                        pci_address: function.pci_address,
                        obstacle,
                    });
                }
            }
            // On a host, each device returns this error.
            Err(error) => {
                unlisted.push(device.name.clone());
                obstacle.get_or_insert(format!("the device {}: {error}", device.name));
            }
        }
    }
    if !functions.is_empty() {
        obstacle = None;
    }
    DocaFunctionList { version, functions, obstacle, unlisted: Some(unlisted), left_out }
}

/// Fails, because this program was built without DOCA.
#[cfg(not(feature = "doca"))]
pub fn open(
    _: &str,
    _: &str,
    settings: &SystemSettings,
    _: &Service,
    _: &mut dyn FnMut(&Regions),
) -> Result<AnySource, Failure> {
    if let AutoOr::Given(path) = &settings.memory_regions_path {
        regions_file(path)?;
    }
    Err(Failure::new(Exit::Usage, WITHOUT))
}

/// Whether functions can be listed: never, because this program was built without DOCA.
#[cfg(not(feature = "doca"))]
pub const fn is_installed(_: Option<&Path>) -> bool {
    false
}

/// Finds nothing, because this program was built without DOCA.
#[cfg(not(feature = "doca"))]
pub fn find(_: Option<&Path>) -> DocaFunctionList {
    DocaFunctionList { obstacle: Some(WITHOUT.to_owned()), ..DocaFunctionList::default() }
}

#[cfg(not(feature = "doca"))]
const WITHOUT: &str = "this program was built without the feature `doca`";

#[cfg(test)]
mod tests {
    use super::*;

    fn function(device: &str, vuid: &str, obstacle: Option<&str>) -> Function {
        Function {
            device: device.to_owned(),
            vuid: vuid.to_owned(),
            kind: None,
            pci_address: None,
            obstacle: obstacle.map(str::to_owned),
        }
    }

    #[test]
    fn only_a_list_of_its_device_shows_that_a_function_is_gone() {
        let functions = vec![function("a", "VF0", None)];
        let listed = DocaFunctionList {
            functions,
            unlisted: Some(Vec::new()),
            ..DocaFunctionList::default()
        };
        let check = |found: &DocaFunctionList, vuid, expected| {
            let address = SystemAddress::doca_from_parts("a", vuid).unwrap();
            assert_eq!(found.may_have(&address), expected, "{vuid}: {found:?}");
        };
        check(&listed, "VF0", true);
        check(&listed, "VF1", false);
        check(
            &DocaFunctionList { unlisted: Some(vec!["b".to_owned()]), ..listed.clone() },
            "VF1",
            false,
        );
        check(
            &DocaFunctionList { unlisted: Some(vec!["a".to_owned()]), ..listed.clone() },
            "VF1",
            true,
        );
        check(&DocaFunctionList { unlisted: None, ..listed }, "VF1", true);
    }

    #[test]
    fn each_reason_is_given_once() {
        let mut found = DocaFunctionList::default();
        assert_eq!(found.obstacles(), None);
        found.functions = (0..9).map(|_| function("a", "VF0", Some("mute"))).collect();
        assert_eq!(found.obstacles().as_deref(), Some("mute"));
        found.left_out = (0..99).map(|number| number.to_string()).collect();
        let reasons = found.obstacles().unwrap();
        assert_eq!(reasons.split("; ").count(), NAMED_REASONS_MAX, "{reasons}");
    }
}
