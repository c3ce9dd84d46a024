//! The lines of `panoptes scan`: `{"kind":"process", …}` with the same fields as in the records.
//!
//! `kinds!` is the only list of the kinds of lines: the command line, the writer of the lines, the
//! schema and the comparison with a guest's truth use [`Kind`]. What a line of a new kind contains
//! is a variant of [`ScanLine`].
//!
//! A line has no field that depends on the time of the scan, so two scans can be diffed. The caller
//! leaves such fields empty.

use crate::json::{Full, JsonWriter, Limits, fit};

use super::DetailsObject;
use super::container::ContainerDetails;
use super::file_descriptor::FileDescriptorDetails;
use super::interface::WorkloadInterface;
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

/// Declares the kinds of lines. A line has the variant, the word on the command line, the value of
/// `kind` and the help.
macro_rules! kinds {
    ($($kind:ident $word:literal $name:literal $help:literal;)*) => {
        /// A kind of object that a scan prints; the order is that of the output.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Kind {
            $(#[doc = $help] $kind,)*
        }

        impl Kind {
            /// Every kind, in the order of the output, which is that of the discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];
            /// The values of `kind`, in the same order.
            pub(crate) const NAMES: &'static [&'static str] = &[$($name,)*];

            /// The word on the command line.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }

            /// The help on the command line.
            pub const fn help(self) -> &'static str {
                match self {
                    $(Self::$kind => $help,)*
                }
            }
        }
    };
}

kinds! {
    Processes "processes" "process" "Processes";
    Threads "threads" "thread" "Threads";
    Files "files" "file_descriptor" "Open files, sockets, pipes and the like";
    Memory "memory" "memory" "Memory areas";
    Connections "connections" "connection" "Network connections";
    Interfaces "interfaces" "interface" "Network interfaces";
    Containers "containers" "container" "Containers";
    ShellHistory "shell-history" "shell_command" "Commands in the histories of shells";
}

impl Kind {
    /// The value of `kind` in a line.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The kind with this word on the command line.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Kinds(u16);

impl Kinds {
    pub const ALL: Self = Self((1 << Kind::ALL.len()) - 1);

    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// The kinds of the set, in the order of the output.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.iter().copied().filter(move |&kind| self.contains(kind))
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<T: IntoIterator<Item = Kind>>(kinds: T) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u16))
    }
}

impl ScanLine<'_> {
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Process(_) => Kind::Processes,
            Self::Thread { .. } => Kind::Threads,
            Self::FileDescriptor { .. } => Kind::Files,
            Self::Memory(_) => Kind::Memory,
            Self::Connection { .. } => Kind::Connections,
            Self::Interface { .. } => Kind::Interfaces,
            Self::Container(_) => Kind::Containers,
            Self::ShellCommand { .. } => Kind::ShellHistory,
        }
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
                out.word(self.kind().name())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_its_kinds_in_the_order_of_the_output() {
        let kinds: Kinds = [Kind::ShellHistory, Kind::Files, Kind::Files].into_iter().collect();
        assert_eq!(kinds.iter().collect::<Vec<_>>(), [Kind::Files, Kind::ShellHistory]);
        assert!(!kinds.contains(Kind::Processes));
        assert!(Kinds::ALL.iter().eq(Kind::ALL.iter().copied()));
        assert_eq!(Kinds::ALL.iter().collect::<Kinds>(), Kinds::ALL);
    }

    #[test]
    fn every_kind_has_its_words() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_word(kind.word()), Some(kind));
        }
        assert_eq!(Kind::Files.name(), "file_descriptor");
        assert_eq!(Kind::from_word("process"), None);
    }
}
