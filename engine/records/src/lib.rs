//! What Panoptes reports: the records and their serialisers.
//!
//! Callers fill details structs that borrow the data ([`record`]). A record is serialised once into
//! preallocated space ([`json`]) and leaves as a line. [`activities`] is the table of everything
//! that can be reported; [`schema`] is made from the same declarations that write the records. A
//! scanner writes records straight into its [`queue`]. [`flow`] has the records of network flows.
//!
//! This crate knows neither kernels nor policy nor outputs nor the time: the caller passes
//! everything in. After start it allocates nothing. Start reading at
//! [`record::RecordWriter::write`] and [`record::scan::ScanLine::write`].
//!
//! ```
//! use panoptes_records::activities::Activity;
//! use panoptes_records::json::Limits;
//! use panoptes_records::record::header::RecordHeader;
//! use panoptes_records::record::interface::BluefieldSystem;
//! use panoptes_records::record::process::ProcessDetails;
//! use panoptes_records::record::scan::ScanLine;
//! use panoptes_records::record::workload::Workload;
//! use panoptes_records::record::{Details, Record, RecordWriter};
//!
//! let process = ProcessDetails {
//!     process_name: b"bash".as_slice().into(),
//!     process_id: 714,
//!     process_parent_process_id: Some(702),
//!     ..ProcessDetails::default()
//! };
//! let mut out = [0; 4096];
//!
//! // `panoptes scan`: one line, with its line feed.
//! let length = ScanLine::new(&process).write(&mut out, 1024)?;
//! assert_eq!(
//!     &out[..length],
//!     b"{\"kind\":\"process\",\"process_name\":\"bash\",\"process_id\":714,\
//!       \"process_parent_process_id\":702}\n"
//! );
//!
//! // A record: the header is built once per system, the writer lives as long as its scanner.
//! let (user_data, bluefield) = ("NONE".into(), BluefieldSystem::default());
//! let mut header = RecordHeader::new(&user_data, &bluefield, Limits::new(1024));
//! header.set_workload(&Workload { hostname: Some("web-1".into()), ..Workload::default() });
//! let mut writer = RecordWriter::new(0x0123_4567_89ab_cdef, 1024);
//! let record = Record::new(Activity::ProcessCreated, Details::Process(&process));
//! let length = writer.write(&mut out, &header, &record, 1_795_159_906_905_224_659)?;
//! assert!(out[..length].starts_with(b"{\"vendor_name\":\"PANOPTES\""));
//! # Ok::<(), panoptes_records::json::Full>(())
//! ```

#![forbid(unsafe_code)]

pub mod activities;
mod details_kind;
pub mod dialect;
pub mod filter;
pub mod flow;
pub mod json;
pub mod people;
mod preset;
pub mod queue;
pub mod record;
pub mod record_counts;
pub mod redact;
pub mod schema;
pub mod schema_type;
mod words;
