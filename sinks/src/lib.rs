//! The outputs that records go to, and the formats of flow records.
//!
//! The [`writer`], on a thread of its own, carries records from their queues to the [`output`]s:
//! files, streams and receivers, by io_uring or by plain writes. Scanners never wait for the
//! writer. Records that an output cannot accept in time are dropped and counted. [`flow`] has the
//! formats in which records of flows leave.
//!
//! This crate knows neither kernels nor policy nor the time: the caller passes everything in. After
//! start, files and streams allocate nothing; TLS, HTTP and Parquet do. Start reading at
//! [`writer::Writer::step`].
//!
//! From the queue to a file:
//!
//! ```no_run
//! # use std::sync::atomic::AtomicBool;
//! # use panoptes_records::activities::Activity;
//! # use panoptes_records::json::Limits;
//! # use panoptes_records::record::header::RecordHeader;
//! # use panoptes_records::record::interface::BluefieldSystem;
//! # use panoptes_records::record::process::ProcessDetails;
//! # use panoptes_records::record::{Details, Record, RecordWriter};
//! use panoptes_sinks::output::file::{FileOptions, FileOutput};
//! use panoptes_records::queue::{QueueSize, Waker, queue};
//! use panoptes_sinks::writer::Writer;
//!
//! # let (user_data, bluefield) = ("NONE".into(), BluefieldSystem::default());
//! # let header = RecordHeader::new(&user_data, &bluefield, Limits::new(1024));
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

pub mod failpoints;
pub mod flow;
pub mod output;
pub mod panics;
pub mod writer;
