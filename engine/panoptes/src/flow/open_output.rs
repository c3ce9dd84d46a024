//! One open output: a file, standard output, datagrams, or a collector of IPFIX.
//!
//! A sensor of live packets never waits for one: files are written by threads of their own, and
//! what finds no room is lost and counted. A reader of captures waits, but hears signals.

use std::io;
use std::path::Path;

use panoptes_records::flow::{Extra, FlowRecord};
use panoptes_sinks::flow::filter::RecordFilter;
use panoptes_sinks::flow::ipfix::{MESSAGE_BYTES_MAX, Session};
use panoptes_sinks::flow::output::{BlockingOutput as _, Datagrams, RecordFile};
use panoptes_sinks::flow::parquet::ParquetFile;

use super::filter;
use super::forms::Forms;
use super::live_output::{LiveOutput, Loss};
use super::patience::{LAST_WAIT, Patience};
use super::request::{FlowRecordForm, OutputRequest, Target};
use super::signals::Signals;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// The time between templates of IPFIX, in nanoseconds.
const TEMPLATES_NS: i64 = 60_000_000_000;

/// What to do about outputs that fail.
#[derive(Debug)]
pub(super) struct Trouble {
    /// A failure ends the program, unless live packets are read.
    pub(super) is_live: bool,
    pub(super) failure: Option<Failure>,
    pub(super) messages: Messages,
}

/// An open output.
#[derive(Debug)]
pub(super) struct Open {
    sink: Sink,
    name: String,
    pub(super) form: FlowRecordForm,
    /// Whether its records are rows of columns.
    has_columns: bool,
    pub(super) filter: Option<RecordFilter>,
    /// Whether the last write has failed.
    is_failing: bool,
    /// Records that were not accepted.
    lost: u64,
    has_ended: bool,
}

#[derive(Debug)]
enum Sink {
    File(RecordFile),
    Parquet(Box<ParquetFile>),
    Datagrams(Datagrams),
    /// One of these on a thread of its own.
    Live(LiveOutput),
    Ipfix(Box<Collector>),
}

/// A collector of IPFIX, and the message for it that is being filled.
#[derive(Debug)]
struct Collector {
    to: Carrier,
    session: Session,
    message: [u8; MESSAGE_BYTES_MAX],
}

/// What sends datagrams.
#[derive(Debug)]
enum Carrier {
    Direct(Datagrams),
    Live(LiveOutput),
}

/// The one that waits for outputs, if any.
pub(super) enum OutputWaiter<'a> {
    /// Nobody: packets are live. So many bytes wait for an output.
    Nobody(&'a Messages, usize),
    /// The reader of captures, until there are signals.
    Reader(&'a Signals),
}

impl OutputWaiter<'_> {
    fn file(&self, mut file: RecordFile, name: &str) -> io::Result<Sink> {
        match self {
            Self::Nobody(messages, bytes) => {
                LiveOutput::start(file, name, (messages, *bytes)).map(Sink::Live)
            }
            Self::Reader(signals) => {
                let signals = (*signals).clone();
                file.wait_while(Box::new(move || signals.ends() == 0));
                Ok(Sink::File(file))
            }
        }
    }

    fn parquet(&self, file: ParquetFile, name: &str) -> io::Result<Sink> {
        match self {
            Self::Nobody(messages, bytes) => {
                LiveOutput::start(file, name, (messages, *bytes)).map(Sink::Live)
            }
            Self::Reader(_) => Ok(Sink::Parquet(Box::new(file))),
        }
    }

    fn datagrams(&self, datagrams: Datagrams, name: &str) -> io::Result<Carrier> {
        match self {
            Self::Nobody(messages, bytes) => {
                LiveOutput::start(datagrams, name, (messages, *bytes)).map(Carrier::Live)
            }
            Self::Reader(_) => Ok(Carrier::Direct(datagrams)),
        }
    }
}

impl Open {
    /// Opens an output.
    pub(super) fn new(
        output: &OutputRequest,
        has_sizes: bool,
        forms: &mut Forms,
        waiting: &OutputWaiter<'_>,
    ) -> Result<Self, Failure> {
        let filter = output.filter.as_deref().map(filter::of_output).transpose()?;
        let name = match &output.to {
            Target::StandardOutput => "standard output".to_owned(),
            Target::File(path) | Target::Parquet(path) => path.display().to_string(),
            Target::Datagrams(address) => format!("argus-udp://{address}"),
            Target::Ipfix(address) => format!("ipfix://{address}"),
        };
        let sink = open_sink(output, &name, has_sizes, forms, waiting);
        let sink = sink.map_err(|error| match &output.to {
            Target::Datagrams(address) | Target::Ipfix(address) => {
                Failure::io(&error, Exit::Output, format_args!("cannot send to {address}"))
            }
            _ => Failure::not_written(Path::new(&name), &error),
        })?;
        Ok(Self {
            sink,
            name,
            form: output.form,
            has_columns: matches!(output.to, Target::Parquet(_)),
            filter,
            is_failing: false,
            lost: 0,
            has_ended: false,
        })
    }

    /// Whether its reader has gone.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether records go there, and no answers of DNS.
    pub(super) fn has_records(&self) -> bool {
        self.form != FlowRecordForm::PassiveDns
    }

    /// Whether there is place for records of something else than flows.
    pub(super) fn has_others(&self) -> bool {
        !self.has_columns && !matches!(self.sink, Sink::Ipfix(_))
    }

    /// Adds a record by its fields, if the output has a form of its own.
    pub(super) fn push_fields(&mut self, record: &FlowRecord, extra: &Extra<'_>) -> bool {
        let Sink::Ipfix(collector) = &mut self.sink else { return false };
        collector.push(record, extra);
        true
    }

    pub(super) fn push(&mut self, record: &[u8], trouble: &mut Trouble) {
        let result = match &mut self.sink {
            Sink::Live(live) => return live.push(record),
            Sink::Datagrams(datagrams) => return datagrams.push(record),
            Sink::Ipfix(_) => return,
            Sink::File(_) if self.is_failing => {
                self.lost += 1;
                return;
            }
            Sink::File(file) => file.push(record),
            Sink::Parquet(file) => file.push(record),
        };
        self.lost += u64::from(result.is_err());
        self.note(&result, trouble);
    }

    /// Writes what waits. Only with `checks`, looks whether a file was moved, and tries again what
    /// has failed.
    pub(super) fn step(&mut self, checks: bool, trouble: &mut Trouble) {
        let result = match &mut self.sink {
            Sink::Live(live) => return live.pass_on(),
            Sink::File(_) if self.is_failing && !checks => return,
            Sink::File(file) if self.is_failing => file.finish(),
            Sink::File(file) if checks => file.look().and_then(|()| file.flush()),
            Sink::File(file) => file.flush(),
            Sink::Ipfix(collector) => return collector.step(checks),
            Sink::Datagrams(_) | Sink::Parquet(_) => return,
        };
        if let Sink::File(file) = &self.sink {
            self.has_ended = file.has_ended();
        }
        self.note(&result, trouble);
    }

    /// Takes the result of a write to a file that this thread writes.
    fn note(&mut self, result: &io::Result<()>, trouble: &mut Trouble) {
        if let Err(error) = result {
            let new = Failure::not_written(Path::new(&self.name), error);
            trouble.failure.get_or_insert(new);
        }
        self.is_failing = result.is_err();
    }

    /// Looks at an output of live packets; returns what is to be reported of it. `None` is the end.
    pub(super) fn look(&mut self, now_ns: Option<u64>, messages: &Messages) -> Option<Loss> {
        let live = self.live()?;
        let loss = live.look(now_ns, messages);
        self.has_ended = live.has_ended();
        loss
    }

    const fn live(&mut self) -> Option<&mut LiveOutput> {
        match &mut self.sink {
            Sink::Live(live) => Some(live),
            Sink::Ipfix(collector) => match &mut collector.to {
                Carrier::Live(live) => Some(live),
                Carrier::Direct(_) => None,
            },
            _ => None,
        }
    }

    /// Lets the records to come, which are the last ones, wait for the thread of the output.
    pub(super) fn wait_for_room(&mut self, patience: &Patience) {
        if let Some(live) = self.live() {
            live.wait_for_room(patience);
        }
    }

    /// Has everything written by the thread of the output, if it has one.
    pub(super) fn close(&mut self) {
        if let Sink::Ipfix(collector) = &mut self.sink {
            collector.send();
        }
        if let Some(live) = self.live() {
            live.close();
        }
    }

    /// Writes everything, as far as that is possible in time. What is lost is a failure.
    pub(super) fn finish(&mut self, patience: &Patience, trouble: &mut Trouble) {
        let messages = trouble.messages.clone();
        if let Some(live) = self.live() {
            let failure = live.finish(patience, &messages);
            trouble.failure = trouble.failure.take().or(failure);
            return;
        }
        let result = match &mut self.sink {
            Sink::File(file) => file.finish(),
            Sink::Parquet(file) => file.finish(),
            Sink::Datagrams(datagrams) => {
                datagrams.finish(LAST_WAIT);
                self.lost = datagrams.lost();
                Ok(())
            }
            Sink::Ipfix(collector) => {
                if let Carrier::Direct(datagrams) = &mut collector.to {
                    datagrams.finish(LAST_WAIT);
                    // Number of messages, each with several records.
                    self.lost = datagrams.lost();
                }
                Ok(())
            }
            Sink::Live(_) => Ok(()),
        };
        self.note(&result, trouble);
        if self.lost > 0 {
            let lost = format!("{} records could not be written to {}", self.lost, self.name);
            messages.warning(&lost);
            trouble.failure.get_or_insert_with(|| Failure::new(Exit::Output, lost));
        }
    }
}

/// Makes what writes to an output.
fn open_sink(
    output: &OutputRequest,
    name: &str,
    has_sizes: bool,
    forms: &mut Forms,
    waiting: &OutputWaiter<'_>,
) -> io::Result<Sink> {
    // Readers know the file by its first record, whatever the filter is.
    let first = forms.first(output.form).to_vec();
    match &output.to {
        Target::StandardOutput => waiting.file(RecordFile::standard_output(&first)?, name),
        Target::File(path) => waiting.file(RecordFile::open(path, &first)?, name),
        Target::Parquet(path) => waiting.parquet(ParquetFile::create(path)?, name),
        Target::Datagrams(address) => {
            Ok(match waiting.datagrams(Datagrams::open(*address)?, name)? {
                Carrier::Direct(datagrams) => Sink::Datagrams(datagrams),
                Carrier::Live(live) => Sink::Live(live),
            })
        }
        Target::Ipfix(address) => {
            let to = waiting.datagrams(Datagrams::open(*address)?, name)?;
            let domain = u32::from_be_bytes(forms.management.source_id.bytes());
            let session = Session::new(domain, TEMPLATES_NS).with_sizes(has_sizes);
            let message = [0; MESSAGE_BYTES_MAX];
            Ok(Sink::Ipfix(Box::new(Collector { to, session, message })))
        }
    }
}

impl Collector {
    fn push(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        let now_ns = super::now_ns();
        if self.session.write(&mut self.message, record, extra, now_ns).is_none() {
            self.send();
            // A record always fits into an empty message.
            let _ = self.session.write(&mut self.message, record, extra, now_ns);
        }
    }

    /// Sends what waits for others of its message, only with `checks`.
    fn step(&mut self, checks: bool) {
        if checks {
            self.send();
        }
        if let Carrier::Live(live) = &mut self.to {
            live.pass_on();
        }
    }

    /// Sends the message, if it has a record.
    fn send(&mut self) {
        if let Some(length) = self.session.finish(&mut self.message, super::now_ns()) {
            let message = &self.message[..length];
            match &mut self.to {
                Carrier::Direct(datagrams) => datagrams.push(message),
                Carrier::Live(live) => live.push(message),
            }
        }
    }
}
