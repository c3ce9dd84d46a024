//! Records: the details objects, and how a whole record is written.
//!
//! The guide, whose sections name the attributes, is NVIDIA's *DOCA Argus Service Guide*
//! (`docs/compatibility.md`, "The guide").
//!
//! Each details object has its own file and is declared once (`macros.rs`). `value.rs` has the
//! kinds of value that fields can have, `header.rs` the parts shared by all records of a system,
//! `scan.rs` the lines of `panoptes scan`. Nothing here knows the kernel, nor decides when to write
//! a record. Start at [`RecordWriter::write`].

use crate::activities::{Activity, MessageType};
use crate::dialect::Dialect;
use crate::json::time::{Day, TIMESTAMP_LENGTH, Timestamp};
use crate::json::{Full, JsonWriter, Limits, fit_redacted};
use crate::redact::Redactor;
use crate::schema_type::SchemaObject;

pub use crate::details_kind::DetailsKind;

pub mod container;
pub mod detection;
pub mod ebpf_object;
pub mod ebpf_program;
pub mod elf_file;
pub mod file;
pub mod file_descriptor;
pub mod header;
pub mod interface;
pub mod kernel_code;
pub mod kernel_module;
mod macros;
pub mod message_id;
pub mod network_connection;
pub mod package;
pub mod process;
pub mod process_executed;
pub mod process_memory;
pub mod reverse_shell;
pub mod scan;
pub mod shell_history;
pub mod system_activity;
pub mod thread;
pub mod value;
pub mod workload;

use container::ContainerDetails;
use detection::{Detection, Membership};
use ebpf_program::EbpfProgramDetails;
use elf_file::ElfFileDetails;
use file::FileDetails;
use file_descriptor::FileDescriptorDetails;
use header::{RecordHeader, TIME_KEY, Weight};
use kernel_code::KernelCodeDetails;
use kernel_module::KernelModuleDetails;
use message_id::MessageIds;
use network_connection::NetworkConnectionDetails;
use package::PackageDetails;
use process::ProcessDetails;
use process_executed::ProcessExecutedDetails;
use process_memory::ProcessMemoryDetails;
use reverse_shell::ReverseShellDetails;
use shell_history::ShellHistoryDetails;
use system_activity::SystemActivityDetails;
use thread::ThreadDetails;
use value::Uuid;
use workload::ContainerContext;

/// `schema_version`.
pub const SCHEMA_VERSION: &str = "1.0";

/// Maximum length of a record, its line feed included: receivers with a 32 KiB buffer close the
/// connection on more.
pub const RECORD_BYTES_MAX: usize = 31 * 1024;
const _: () = assert!(RECORD_BYTES_MAX <= u16::MAX as usize, "places in a record have 16 bits");

/// An object of named fields, as the `details!` macro declares it.
pub trait DetailsObject {
    /// The object's key in a record.
    const KEY: &'static str;
    /// `,"key":`
    const KEY_FRAGMENT: &'static str;

    /// Appends the fields, comma first, without the braces.
    fn append_fields(&self, out: &mut JsonWriter<'_>) -> Result<(), Full>;

    /// Adds the fields to a schema.
    fn describe_fields(object: &mut SchemaObject);

    /// Returns the object's schema.
    fn schema_object() -> SchemaObject {
        let mut object = SchemaObject::default();
        Self::describe_fields(&mut object);
        object
    }

    /// Appends key and object.
    #[inline]
    fn append(&self, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        out.raw(Self::KEY_FRAGMENT.as_bytes())?;
        out.object(|out| self.append_fields(out))
    }
}

macro_rules! details_kinds {
    ($($variant:ident $type:ident $(<$life:lifetime>)?;)*) => {
        /// The details object of an activity or of one of its parents.
        #[derive(Clone, Copy, Debug)]
        pub enum Details<'a> {
            $(#[doc = concat!("[`", stringify!($type), "`]")] $variant(&'a $type $(<$life>)?),)*
        }

        impl Details<'_> {
            pub const fn kind(&self) -> DetailsKind {
                match self {
                    $(Self::$variant(_) => DetailsKind::$variant,)*
                }
            }

            fn append(&self, out: &mut JsonWriter<'_>) -> Result<(), Full> {
                match self {
                    $(Self::$variant(details) => details.append(out),)*
                }
            }
        }

        impl DetailsKind {
            /// The object's key in a record.
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$variant => <$type as DetailsObject>::KEY,)*
                }
            }

            /// The object's fields.
            pub fn describe(self) -> SchemaObject {
                match self {
                    $(Self::$variant => <$type as DetailsObject>::schema_object(),)*
                }
            }
        }
    };
}

details_kinds! {
    Process ProcessDetails<'a>;
    Thread ThreadDetails;
    FileDescriptor FileDescriptorDetails<'a>;
    NetworkConnection NetworkConnectionDetails<'a>;
    ProcessMemory ProcessMemoryDetails<'a>;
    ElfFile ElfFileDetails<'a>;
    Container ContainerDetails<'a>;
    ShellHistory ShellHistoryDetails<'a>;
    ReverseShell ReverseShellDetails<'a>;
    Package PackageDetails<'a>;
    File FileDetails<'a>;
    SystemActivity SystemActivityDetails<'a>;
    ProcessExecuted ProcessExecutedDetails<'a>;
    KernelModule KernelModuleDetails<'a>;
    KernelCode KernelCodeDetails<'a>;
    EbpfProgram EbpfProgramDetails<'a>;
}

/// The content of one record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub activity: Activity,
    /// The object of the activity; its kind is given by the activities' table.
    pub own: Details<'a>,
    /// The objects that it belongs to, in the table's order; unknown ones are left out.
    pub parents: &'a [Details<'a>],
    /// The container in which it happened.
    pub container: Option<&'a ContainerContext<'a>>,
    pub detection: Option<&'a Detection<'a>>,
    /// The incident that it belongs to.
    pub incident: Option<Uuid>,
    /// Type and severity, if they are not those of the activity.
    pub weight: Option<Weight>,
}

impl<'a> Record<'a> {
    /// A record of an activity, without parents, container or detection.
    pub const fn new(activity: Activity, own: Details<'a>) -> Self {
        let (container, detection, incident, weight) = (None, None, None, None);
        Self { activity, own, parents: &[], container, detection, incident, weight }
    }

    /// Adds the objects that it belongs to.
    #[must_use]
    pub const fn with_parents(mut self, parents: &'a [Details<'a>]) -> Self {
        self.parents = parents;
        self
    }

    /// Whether the reason is given, as every alert requires.
    pub fn says_why(&self) -> bool {
        self.activity.info().message_type != MessageType::Alert || self.detection.is_some()
    }

    /// Whether own details and parents match the activities' table, and an alert gives its reason.
    fn fits_its_activity(&self, dialect: Dialect) -> bool {
        let info = self.activity.info();
        let mut allowed = info.parents_in(dialect).iter();
        info.own == self.own.kind()
            && (self.weight.is_none() || self.activity.has_own_severity())
            && self.says_why()
            && self.parents.iter().all(|parent| allowed.any(|kind| *kind == parent.kind()))
    }
}

/// Writes the records of one scanner, with their ids and length limits.
#[derive(Debug)]
pub struct RecordWriter {
    ids: MessageIds,
    limits: Limits,
    /// All records of a scan have the same time, so its text is cached.
    time_ns: i64,
    time_text: [u8; TIMESTAMP_LENGTH],
    day: Day,
    redactor: Option<Redactor>,
}

impl RecordWriter {
    /// `random` must be drawn anew for every writer: it makes the message ids unique.
    pub fn new(random: u64, string_length: usize) -> Self {
        Self {
            ids: MessageIds::new(random),
            limits: Limits::new(string_length),
            time_ns: 0,
            time_text: Timestamp::from_ns(0).text(),
            day: Day::default(),
            redactor: None,
        }
    }

    /// Cuts strings at another length, in bytes, from now on.
    pub fn set_string_length(&mut self, string_length: usize) {
        self.limits = Limits::new(string_length);
    }

    /// Sets what finds the secrets in arguments and shell commands, from the next record on.
    pub fn set_redactor(&mut self, redactor: Option<Redactor>) {
        self.redactor = redactor;
    }

    /// The id of the next record.
    pub fn next_id(&mut self, now_ns: i64) -> Uuid {
        self.ids.next(now_ns)
    }

    /// [`Self::write_as`] with the next id.
    pub fn write(
        &mut self,
        out: &mut [u8],
        header: &RecordHeader,
        record: &Record<'_>,
        now_ns: i64,
    ) -> Result<usize, Full> {
        let id = self.next_id(now_ns);
        self.write_as(id, out, header, record, now_ns)
    }

    /// Writes one record without a line feed and returns its length. `id` is from
    /// [`Self::next_id`].
    ///
    /// A record longer than [`RECORD_BYTES_MAX`] loses the ends of its lists, then of its strings.
    /// If `out` is shorter than that, nothing is cut: a record that does not fit gives [`Full`],
    /// `out` holds no part of it, and the caller passes a larger `out`.
    pub fn write_as(
        &mut self,
        id: Uuid,
        out: &mut [u8],
        header: &RecordHeader,
        record: &Record<'_>,
        now_ns: i64,
    ) -> Result<usize, Full> {
        let dialect = header.dialect();
        debug_assert!(record.fits_its_activity(dialect), "{record:?}");
        if now_ns != self.time_ns {
            self.time_ns = now_ns;
            self.time_text = Timestamp::from_ns(now_ns).text();
        }
        let time = &self.time_text;
        let has_time = !dialect.is_foreign() || Timestamp::from_ns(now_ns).is_set();
        let most = RECORD_BYTES_MAX - 1; // the line feed
        let room = out.len().min(most);
        let redactor = self.redactor.as_mut();
        fit_redacted(&mut out[..room], self.limits, most, redactor, &mut self.day, |out| {
            out.set_dialect(dialect);
            header.append_head(record, out)?;
            id.write_to(out.after("")?);
            if has_time {
                out.after::<TIMESTAMP_LENGTH>(TIME_KEY)?.copy_from_slice(time);
            }
            header.append_middle(record.container, out)?;
            out.raw(record.activity.info().opening.as_bytes())?;
            match (dialect, record.own) {
                (Dialect::DocaArgus, Details::ReverseShell(shell)) => {
                    out.repeated(|out| shell.append(out))?;
                    // The list itself, where consumers of DOCA Argus look for it.
                    shell.append_fields(out)?;
                }
                _ => record.own.append(out)?,
            }
            for parent in record.parents {
                parent.append(out)?;
            }
            out.raw(b"}")?;
            match (record.detection, record.incident) {
                (Some(detection), incident) => detection.of_incident(incident).append(out)?,
                (None, Some(incident_id)) => Membership { incident_id }.append(out)?,
                (None, None) => {}
            }
            out.raw(b"}")
        })
    }
}
