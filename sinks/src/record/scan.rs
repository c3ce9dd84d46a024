//! The lines of `panoptes scan`: `{"kind":"process", …}` with the same fields as in the records.
//!
//! A line has no field that depends on the time of the scan, so two scans can be diffed. The caller
//! leaves such fields empty, for connections with [`NetworkConnectionDetails::without_times`].

use crate::json::{Full, JsonWriter, Limits, fit};

use super::DetailsObject;
use super::container::ContainerDetails;
use super::file_descriptor::FileDescriptorDetails;
use super::interface::WorkloadInterface;
use super::kernel_module::KernelModuleDetails;
use super::network_connection::NetworkConnectionDetails;
use super::process::ProcessDetails;
use super::process_memory::ProcessMemoryDetails;
use super::shell_history::ShellCommand;
use super::thread::ThreadDetails;
use super::value::{Namespace, Value};

/// One line of a scan.
#[derive(Clone, Copy, Debug)]
pub enum ScanLine<'a> {
    Process(&'a ProcessDetails<'a>),
    Thread {
        /// The tgid.
        process_id: u32,
        details: &'a ThreadDetails,
    },
    FileDescriptor {
        /// The tgid.
        process_id: u32,
        details: &'a FileDescriptorDetails<'a>,
    },
    Memory(&'a ProcessMemoryDetails<'a>),
    /// A connection of one holder, or of none.
    Connection {
        /// The holder's tgid.
        process_id: Option<u32>,
        details: &'a NetworkConnectionDetails<'a>,
        network_namespace: Option<Namespace>,
    },
    KernelModule(&'a KernelModuleDetails<'a>),
    Interface {
        details: &'a WorkloadInterface<'a>,
        network_namespace: Option<Namespace>,
    },
    Container(&'a ContainerDetails<'a>),
    /// A command in a shell's history.
    ShellCommand {
        /// The shell's tgid.
        process_id: u32,
        details: &'a ShellCommand<'a>,
    },
}

/// The values of `kind`, in the order in which a scan prints them.
pub const KINDS: [&str; 9] = [
    "process",
    "thread",
    "file_descriptor",
    "memory",
    "connection",
    "kernel_module",
    "interface",
    "container",
    "shell_command",
];

impl ScanLine<'_> {
    /// The line's value of `kind`.
    pub const fn kind(&self) -> &'static str {
        KINDS[match self {
            Self::Process(_) => 0,
            Self::Thread { .. } => 1,
            Self::FileDescriptor { .. } => 2,
            Self::Memory(_) => 3,
            Self::Connection { .. } => 4,
            Self::KernelModule(_) => 5,
            Self::Interface { .. } => 6,
            Self::Container(_) => 7,
            Self::ShellCommand { .. } => 8,
        }]
    }

    /// Writes the line with its line feed and returns its length.
    ///
    /// Lists and strings are cut only if `out` has at least [`SCAN_LINE_BYTES`]; in a shorter
    /// `out`, a line that does not fit gives [`Full`].
    pub fn write(&self, out: &mut [u8], string_length: usize) -> Result<usize, Full> {
        let Some(room) = out.len().checked_sub(1) else {
            return Err(Full);
        };
        let limits = Limits::new(string_length);
        let length = fit(&mut out[..room], limits, SCAN_LINE_BYTES - 1, |out| {
            out.object(|out| {
                out.raw(b",\"kind\":")?;
                out.word(self.kind())?;
                self.append_fields(out)
            })
        })?;
        out[length] = b'\n';
        Ok(length + 1)
    }

    fn append_fields(&self, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        let process_id =
            |id: Option<u32>, out: &mut JsonWriter<'_>| id.append(",\"process_id\":", out);
        let namespace = |id: Option<Namespace>, out: &mut JsonWriter<'_>| {
            id.append(",\"network_namespace\":", out)
        };
        match *self {
            Self::Process(details) => details.append_fields(out),
            Self::Thread { process_id: id, details } => {
                process_id(Some(id), out)?;
                details.append_fields(out)
            }
            Self::FileDescriptor { process_id: id, details } => {
                process_id(Some(id), out)?;
                details.append_fields(out)
            }
            Self::Memory(details) => details.append_fields(out),
            Self::Connection { process_id: id, details, network_namespace } => {
                process_id(id, out)?;
                details.append_fields(out)?;
                namespace(network_namespace, out)
            }
            Self::KernelModule(details) => details.append_fields(out),
            Self::Interface { details, network_namespace } => {
                details.append_fields(out)?;
                namespace(network_namespace, out)
            }
            Self::Container(details) => details.append_fields(out),
            Self::ShellCommand { process_id: id, details } => {
                process_id(Some(id), out)?;
                details.append_fields(out)
            }
        }
    }
}

/// A buffer of this size holds every line of a scan: 32,768 thread ids in a descriptor's list, and
/// strings to match.
pub const SCAN_LINE_BYTES: usize = 512 * 1024;
