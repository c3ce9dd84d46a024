//! The lines of `panoptes scan`: `{"kind":"process", …}` with the same fields as in the records.
//!
//! `kinds!` is the only list of the kinds of lines: the command line, the writer of the lines, the
//! schema and the comparison with a guest's truth use [`ScanKind`]. A column of that list has what
//! a line of a new kind contains.
//!
//! A line has no field that depends on the time of the scan, so two scans can be diffed. The caller
//! leaves such fields empty.

use crate::json::time::Day;
use crate::json::{Full, Limits, fit_redacted};
use crate::redact::Redactor;
use crate::schema_type::{SchemaObject, SchemaType};

use super::DetailsObject;
use super::container::ContainerDetails;
use super::ebpf_object::EbpfObjectDetails;
use super::file_descriptor::FileDescriptorDetails;
use super::interface::WorkloadInterface;
use super::kernel_code::{IntegrityCheckDetails, KernelCodeDetails};
use super::kernel_module::KernelModuleDetails;
use super::network_connection::NetworkConnectionDetails;
use super::process::ProcessDetails;
use super::process_memory::ProcessMemoryDetails;
use super::shell_history::ShellCommand;
use super::thread::ThreadDetails;
use super::value::{DetailsValue as _, Namespace, Scalar as _};

/// One line of a scan: an object, and what it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct ScanLine<'a, T> {
    /// The tgid of the process that has the object, for kinds of which a process has many.
    pub process_id: Option<u32>,
    pub details: &'a T,
    /// Only for kinds that are in a namespace and have no field for it.
    pub network_namespace: Option<Namespace>,
}

/// An object that has lines of its own.
pub trait ScanObject: DetailsObject {
    /// The value of `kind` in its lines.
    const NAME: &'static str;
    /// That value, as the only one of a schema.
    const NAMES: &'static [&'static str] = &[Self::NAME];
}

/// The ids that a kind's lines have besides the object's own fields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ScanLineIds {
    Own,
    Process,
    MaybeProcess,
    Namespace,
}

/// Declares the kinds of lines. A line has the variant, the word on the command line, the value of
/// `kind` and the help; and the object with what its lines have besides. A second object may
/// follow, with the value of `kind` in lines of its own.
macro_rules! kinds {
    ($($kind:ident $word:literal $name:literal $help:literal, $object:ty, $ids:ident
        $(, $second:ty, $second_name:literal)?;)*) => {
        /// A kind of object that a scan prints; the order is that of the output.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum ScanKind {
            $(#[doc = $help] $kind,)*
        }

        impl ScanKind {
            /// Every kind, in the order of the output, which is that of the discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];
            /// The values of `kind`, in the same order.
            const NAMES: &'static [&'static str] = &[$($name,)*];

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

            /// The fields of a line.
            pub(crate) fn line(self) -> SchemaObject {
                match self {
                    $(Self::$kind => line::<$object>(ScanLineIds::$ids),)*
                }
            }

            /// The fields of a line of the second object.
            pub(crate) fn second_line(self) -> Option<SchemaObject> {
                match self {
                    $($(Self::$kind => Some(line::<$second>(ScanLineIds::Own)),)?)*
                    _ => None,
                }
            }
        }

        $(impl ScanObject for $object {
            const NAME: &'static str = $name;
        }

        $(impl ScanObject for $second {
            const NAME: &'static str = $second_name;
        })?)*
    };
}

kinds! {
    Processes "processes" "process" "Processes", ProcessDetails<'_>, Own;
    Threads "threads" "thread" "Threads", ThreadDetails, Process;
    Files "files" "file_descriptor" "Open files, sockets, pipes and the like",
        FileDescriptorDetails<'_>, Process;
    Memory "memory" "memory" "Memory areas", ProcessMemoryDetails<'_>, Own;
    Connections "connections" "connection" "Network connections",
        NetworkConnectionDetails<'_>, MaybeProcess;
    Modules "modules" "kernel_module" "Kernel modules", KernelModuleDetails<'_>, Own;
    Bpf "bpf" "ebpf_object" "Programs, maps and links of eBPF", EbpfObjectDetails<'_>, Own;
    Interfaces "interfaces" "interface" "Network interfaces", WorkloadInterface<'_>, Namespace;
    Containers "containers" "container" "Containers", ContainerDetails<'_>, Own;
    ShellHistory "shell-history" "shell_command" "Commands in the histories of shells",
        ShellCommand<'_>, Process;
    Integrity "integrity" "integrity_check" "Checks of the kernel's code, with what violates them",
        IntegrityCheckDetails, Own, KernelCodeDetails<'_>, "integrity_violation";
}

impl ScanKind {
    /// The value of `kind` in a line.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The kind with this word on the command line.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }
}

fn line<T: ScanObject>(ids: ScanLineIds) -> SchemaObject {
    let mut object = SchemaObject::default();
    object.add("kind", SchemaType::Words(T::NAMES), true);
    if matches!(ids, ScanLineIds::Process | ScanLineIds::MaybeProcess) {
        object.add("process_id", u32::schema(), ids == ScanLineIds::Process);
    }
    T::describe_fields(&mut object);
    if ids == ScanLineIds::Namespace {
        object.add("network_namespace", Namespace::schema(), false);
    }
    object
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Kinds(u16);

impl Kinds {
    pub const ALL: Self = Self((1 << ScanKind::ALL.len()) - 1);
    /// What a scan prints by itself: all objects. Checks of the kernel's code must be asked for.
    pub const OBJECTS: Self = Self(Self::ALL.0 & !(1 << ScanKind::Integrity as u16));

    pub const fn contains(self, kind: ScanKind) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// The kinds of the set, in the order of the output.
    pub fn iter(self) -> impl Iterator<Item = ScanKind> {
        ScanKind::ALL.iter().copied().filter(move |&kind| self.contains(kind))
    }
}

impl FromIterator<ScanKind> for Kinds {
    fn from_iter<T: IntoIterator<Item = ScanKind>>(kinds: T) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u16))
    }
}

impl<'a, T: ScanObject> ScanLine<'a, T> {
    /// The line of an object that names its process, or belongs to none.
    pub const fn new(details: &'a T) -> Self {
        Self { process_id: None, details, network_namespace: None }
    }

    /// The line of an object of a process.
    pub const fn of_process(process_id: u32, details: &'a T) -> Self {
        Self { process_id: Some(process_id), details, network_namespace: None }
    }

    /// Writes the line with its line feed and returns its length.
    ///
    /// Lists and strings are cut only if `out` has at least [`SCAN_LINE_BYTES`]; in a shorter
    /// `out`, a line that does not fit gives [`Full`].
    pub fn write(&self, out: &mut [u8], string_length: usize) -> Result<usize, Full> {
        self.write_redacted(out, string_length, None)
    }

    /// The same with the secrets in arguments and shell commands replaced.
    pub fn write_redacted(
        &self,
        out: &mut [u8],
        string_length: usize,
        redactor: Option<&mut Redactor>,
    ) -> Result<usize, Full> {
        let Some(room) = out.len().checked_sub(1) else {
            return Err(Full);
        };
        let limits = Limits::new(string_length);
        let most = SCAN_LINE_BYTES - 1;
        let mut day = Day::default();
        let length = fit_redacted(&mut out[..room], limits, most, redactor, &mut day, |out| {
            out.object(|out| {
                out.word(",\"kind\":", T::NAME)?;
                self.process_id.append(",\"process_id\":", out)?;
                self.details.append_fields(out)?;
                self.network_namespace.append(",\"network_namespace\":", out)
            })
        })?;
        out[length] = b'\n';
        Ok(length + 1)
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
        let kinds: Kinds =
            [ScanKind::ShellHistory, ScanKind::Files, ScanKind::Files].into_iter().collect();
        assert_eq!(kinds.iter().collect::<Vec<_>>(), [ScanKind::Files, ScanKind::ShellHistory]);
        assert!(!kinds.contains(ScanKind::Processes));
        assert!(Kinds::ALL.iter().eq(ScanKind::ALL.iter().copied()));
        assert_eq!(Kinds::ALL.iter().collect::<Kinds>(), Kinds::ALL);
    }

    #[test]
    fn every_kind_has_its_words() {
        for &kind in ScanKind::ALL {
            assert_eq!(ScanKind::from_word(kind.word()), Some(kind));
        }
        assert_eq!(ScanKind::Files.name(), "file_descriptor");
        assert_eq!(ScanKind::from_word("process"), None);
    }
}
