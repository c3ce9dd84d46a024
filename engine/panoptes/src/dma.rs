//! Memory behind a BlueField's DMA engine: opens `doca:DEVICE/VUID`, and lists these addresses.
//!
//! Not for: reading the memory (the engine's `source::doca`). **This code has not been tested with
//! a BlueField yet.**

use std::fmt;
use std::path::Path;

use panoptes_sources::AnySource;

use crate::config::{AutoOr, Service, SystemSettings};
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

/// The functions that DOCA lists on this machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// DOCA's version; `None`: it is unknown, or DOCA is not installed.
    pub version: Option<String>,
    /// All functions of all devices.
    pub functions: Vec<Function>,
    /// Why there are no functions.
    pub obstacle: Option<String>,
}

fn regions_file(path: &Path) -> Result<Vec<std::ops::Range<u64>>, Failure> {
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

/// Lists the functions of all DMA devices.
#[cfg(feature = "doca")]
pub fn find(library_path: Option<&Path>) -> Found {
    use panoptes_sources::doca::{Library, devices};

    let library = match Library::load(library_path) {
        Ok(library) => library,
        Err(error) => return Found { obstacle: Some(error.to_string()), ..Found::default() },
    };
    let version = library.version().map(str::to_owned);
    let found = match devices(&library) {
        Ok(found) => found,
        Err(error) => {
            return Found { version, obstacle: Some(error.to_string()), ..Found::default() };
        }
    };
    let mut functions = Vec::new();
    let mut obstacle = found.is_empty().then(|| "DOCA finds no device on this machine".to_owned());
    for device in found {
        let mute =
            (!device.copies_memory).then(|| format!("the device {} copies no memory", device.name));
        match device.functions {
            Ok(list) => functions.extend(list.into_iter().map(|function| Function {
                device: device.name.clone(),
                vuid: function.vuid,
                kind: function.kind.map(|kind| kind.to_string()),
                pci_address: function.pci_address,
                obstacle: mute.clone(),
            })),
            // On a host, each device returns this error.
            Err(error) => {
                obstacle.get_or_insert(format!("the device {}: {error}", device.name));
            }
        }
    }
    if !functions.is_empty() {
        obstacle = None;
    }
    Found { version, functions, obstacle }
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

/// Finds nothing, because this program was built without DOCA.
#[cfg(not(feature = "doca"))]
pub fn find(_: Option<&Path>) -> Found {
    Found { obstacle: Some(WITHOUT.to_owned()), ..Found::default() }
}

#[cfg(not(feature = "doca"))]
const WITHOUT: &str = "this program was built without the feature `doca`";
