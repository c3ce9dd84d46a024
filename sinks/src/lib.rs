//! What Panoptes writes: the records, their serialisers, and the outputs they go to.
//!
//! Callers fill details structs that borrow the data ([`record`]). A record is serialised once into
//! preallocated space ([`json`]) and leaves as a line. [`activities`] is
//! the table of everything that can be reported; [`schema`] is made from the same declarations that
//! write the records.
//!
//! A scanner writes records straight into its [`queue`]; the [`writer`], on a thread of its own,
//! carries them to the [`output`]s: files and streams, by io_uring or by plain writes. Scanners
//! never wait for the writer. Records that an output cannot accept in time are dropped and counted.
//!
//! This crate knows neither kernels nor policy nor the time: the caller passes everything in. After
//! start, only outputs over TLS or HTTP allocate, and Parquet files.
//!
//! Start reading at [`record::RecordWriter::write`], [`record::scan::ScanLine::write`] and
//! [`writer::Writer::step`].
//!
//! ```
//! use panoptes_sinks::activities::Activity;
//! use panoptes_sinks::json::Limits;
//! use panoptes_sinks::record::header::Header;
//! use panoptes_sinks::record::interface::BluefieldSystem;
//! use panoptes_sinks::record::process::ProcessDetails;
//! use panoptes_sinks::record::scan::ScanLine;
//! use panoptes_sinks::record::workload::Workload;
//! use panoptes_sinks::record::{Details, Record, RecordWriter};
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
//! let mut header = Header::new(&"NONE".into(), &BluefieldSystem::default(), Limits::new(1024));
//! header.set_workload(&Workload { hostname: Some("web-1".into()), ..Workload::default() });
//! let mut writer = RecordWriter::new(0x0123_4567_89ab_cdef, 1024);
//! let record = Record::new(Activity::ProcessCreated, Details::Process(&process));
//! let length = writer.write(&mut out, &header, &record, 1_795_159_906_905_224_659)?;
//! assert!(out[..length].starts_with(b"{\"vendor_name\":\"PANOPTES\""));
//! # Ok::<(), panoptes_sinks::json::Full>(())
//! ```
//!
//! From the queue to a file:
//!
//! ```no_run
//! # use std::sync::atomic::AtomicBool;
//! # use panoptes_sinks::activities::Activity;
//! # use panoptes_sinks::json::Limits;
//! # use panoptes_sinks::record::header::Header;
//! # use panoptes_sinks::record::interface::BluefieldSystem;
//! # use panoptes_sinks::record::process::ProcessDetails;
//! # use panoptes_sinks::record::{Details, Record, RecordWriter};
//! use panoptes_sinks::output::file::{FileOptions, FileOutput};
//! use panoptes_sinks::queue::{QueueSize, Waker, queue};
//! use panoptes_sinks::writer::Writer;
//!
//! # let header = Header::new(&"NONE".into(), &BluefieldSystem::default(), Limits::new(1024));
//! # let process = ProcessDetails::default();
//! # let record = Record::new(Activity::ProcessCreated, Details::Process(&process));
//! # let mut records = RecordWriter::new(7, 1024);
//! # let now_ns = 0;
//! let file = FileOutput::open("/var/log/panoptes/events.jsonl".as_ref(), FileOptions::default())?;
//! let (mut producer, consumer) = queue(QueueSize::default(), &Waker::default());
//! let mut writer = Writer::new(vec![consumer], vec![Box::new(file)]);
//! let start = std::time::Instant::now();
//! std::thread::spawn(move || {
//!     writer.run(&|| start.elapsed().as_nanos() as u64, &AtomicBool::new(false))
//! });
//!
//! // The scanner: each record into the queue, and a flush when the scan ends.
//! let class = header.class(record.activity);
//! let write = |room: &mut [u8]| records.write(room, &header, &record, now_ns);
//! if producer.push_with(class, write).is_err() {
//!     // The queue is full and has counted the refused record.
//! }
//! producer.flush();
//! # Ok::<(), std::io::Error>(())
//! ```
#![cfg_attr(not(feature = "outputs"), expect(dead_code, reason = "outputs use some methods"))]

pub mod activities;
mod details_kind;
pub mod dialect;
#[cfg(feature = "outputs")]
pub mod failpoints;
pub mod filter;
#[cfg(feature = "outputs")]
pub mod flow;
pub mod json;
#[cfg(feature = "outputs")]
pub mod output;
#[cfg(feature = "outputs")]
pub mod panics;
pub mod people;
mod preset;
pub mod queue;
pub mod record;
pub mod record_counts;
pub mod redact;
pub mod schema;
mod words;
#[cfg(feature = "outputs")]
pub mod writer;
