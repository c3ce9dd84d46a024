//! Where records go: files, standard output, datagrams, collectors of IPFIX, clients.
//!
//! A record is written once in each form and given to each output whose filter matches it.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use panoptes_flow::Reports;
use panoptes_sinks::flow::argus::{Extra, Interim, Management, Options};
use panoptes_sinks::flow::filter::RecordFilter;
use panoptes_sinks::flow::ipfix::{MESSAGE_BYTES_MAX, Session};
use panoptes_sinks::flow::json::Resolution;
use panoptes_sinks::flow::output::{Clients, Datagrams, RecordFile};
use panoptes_sinks::flow::parquet::ParquetFile;
use panoptes_sinks::flow::{Cause, FlowRecord};
use panoptes_sinks::record::header::Header;

use super::forms::Forms;
use super::labels::LabelTable;
use super::request::{Form, Output, Request, Target};
use super::system::{Attached, WatchedSystem};
use super::{filter, limit, system};
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// How long the end of the program waits for receivers.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// How often files are looked at, and how long a record waits at most for an IPFIX message to fill.
const CHECK_NS: u64 = 1_000_000_000;
/// The time between templates of IPFIX, in nanoseconds.
const TEMPLATES_NS: i64 = 60_000_000_000;

/// All outputs.
#[derive(Debug)]
pub(super) struct Outputs {
    all: Vec<Open>,
    clients: Option<Clients<RecordFilter>>,
    /// The system whose packets these are.
    system: Option<WatchedSystem>,
    forms: Forms,
    labels: Option<Arc<LabelTable>>,
    trouble: Trouble,
    next_check_ns: u64,
    /// The records to come are the last ones of flows that have not ended.
    is_ending: bool,
}

/// What to do about outputs that fail.
#[derive(Debug)]
struct Trouble {
    /// A failure ends the program, unless live packets are read.
    is_live: bool,
    failure: Option<Failure>,
    messages: Messages,
}

/// An open output.
#[derive(Debug)]
struct Open {
    sink: Sink,
    form: Form,
    filter: Option<RecordFilter>,
    /// Whether the last write has failed, and how many records were not accepted since then.
    is_failing: bool,
    lost: u64,
}

#[derive(Debug)]
enum Sink {
    File(RecordFile),
    Datagrams(Datagrams),
    Ipfix(Box<Collector>),
    /// A file of columns, and its path.
    Parquet(Box<ParquetFile>, PathBuf),
}

/// A collector of IPFIX, and the message for it that is being filled.
#[derive(Debug)]
struct Collector {
    datagrams: Datagrams,
    session: Session,
    message: [u8; MESSAGE_BYTES_MAX],
}

/// The ports where clients connect. They are opened before the program gives up its privileges.
pub(super) fn listen(request: &Request) -> Result<Option<Clients<RecordFilter>>, Failure> {
    if request.port == 0 {
        return Ok(None);
    }
    let any = [Ipv4Addr::UNSPECIFIED.into()];
    let addresses = if request.bind.is_empty() { &any[..] } else { &request.bind };
    let addresses: Vec<_> =
        addresses.iter().map(|address| SocketAddr::new(*address, request.port)).collect();
    let clients = Clients::listen(&addresses, request.access.clone(), filter::of_client);
    clients
        .map(Some)
        .map_err(|error| Failure::new(Exit::from_io(&error.error, Exit::Source), error.to_string()))
}

impl Outputs {
    pub(super) fn open(
        request: &Request,
        management: Management,
        clients: Option<Clients<RecordFilter>>,
        attached: Option<Attached>,
        messages: &Messages,
    ) -> Result<Self, Failure> {
        let both = attached.zip(request.beside.as_ref());
        let system = both
            .map(|(attached, beside)| WatchedSystem::start(attached, &beside.alerts))
            .transpose()?;
        let mut forms = Forms::new(request.user_bytes_max(), management);
        let has_sizes = request.records.packet_sizes;
        let all = request.outputs.iter().map(|output| open(output, has_sizes, &mut forms));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        let trouble = Trouble {
            is_live: !request.reads_captures(),
            failure: None,
            messages: messages.clone(),
        };
        let labels = request.labels.clone();
        Ok(Self {
            all,
            clients,
            system,
            forms,
            labels,
            trouble,
            next_check_ns: 0,
            is_ending: false,
        })
    }

    /// Whether no output needs more: one has failed, or all their readers have gone.
    pub(super) fn has_ended(&self) -> bool {
        let has_ended = |open: &Open| matches!(&open.sink, Sink::File(file) if file.has_ended());
        self.trouble.failure.is_some()
            || self.clients.is_none() && !self.all.is_empty() && self.all.iter().all(has_ended)
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.as_ref().map_or(0, Clients::count)
    }

    /// The records to come are the last ones. Those of live flows have the cause that the sensor
    /// ends; at the ends of captures argus gives no such cause.
    pub(super) const fn begin_to_end(&mut self) {
        self.is_ending = self.trouble.is_live;
    }

    /// Receives the records of flows that have these options.
    pub(super) const fn of<'a>(&'a mut self, options: &'a Options) -> Recording<'a> {
        Recording { outputs: self, options }
    }

    /// Writes what waits, looks at files, and serves clients. `now_ns` never goes back.
    pub(super) fn step(&mut self, now_ns: u64) {
        let checks = now_ns >= self.next_check_ns;
        if checks {
            self.next_check_ns = now_ns + CHECK_NS;
        }
        for open in &mut self.all {
            open.step(checks, &mut self.forms, &mut self.trouble);
        }
        if let Some(clients) = &mut self.clients {
            for event in clients.step(self.forms.first(Form::Argus), now_ns) {
                self.trouble.messages.info(event);
            }
        }
    }

    /// Writes a management record to all outputs.
    pub(super) fn report_state(&mut self, cause: Cause, interim: &Interim) {
        self.forms.begin();
        let source_id = self.forms.management.source_id;
        let matches = |filter: &RecordFilter| filter.matches_management(source_id, cause);
        for open in &mut self.all {
            if open.has_records() && open.has_others() && open.filter.as_ref().is_none_or(matches) {
                open.push(self.forms.state(open.form, cause, interim), &mut self.trouble);
            }
        }
        if let Some(clients) = &mut self.clients {
            clients.push(self.forms.state(Form::Argus, cause, interim), matches);
        }
    }

    /// The header of records of a full table of flows; `None` if a configuration wants none.
    pub(super) fn take_limit_header(&mut self) -> Option<Header> {
        match &mut self.system {
            None => Some(limit::plain_header()),
            Some(system) => system.take_limit_header(),
        }
    }

    /// Writes a system activity: a line that is a record of `panoptes watch`, to JSON lines and
    /// alerts.
    pub(super) fn report_activity(&mut self, line: &[u8]) {
        let source_id = self.forms.management.source_id;
        let matches = |filter: &RecordFilter| filter.matches_management(source_id, Cause::Status);
        for open in &mut self.all {
            if open.form == Form::Json
                && open.has_others()
                && open.filter.as_ref().is_none_or(matches)
            {
                open.push(line, &mut self.trouble);
            }
        }
        if let Some(system) = &self.system {
            system.alert(line);
        }
    }

    /// Writes the last management record and everything that waits.
    pub(super) fn finish(mut self, interim: &Interim) -> Result<Exit, Failure> {
        self.report_state(Cause::Stop, interim);
        // What fails now ends the program with an error, in any case.
        self.trouble.is_live = false;
        for open in &mut self.all {
            match &mut open.sink {
                Sink::File(file) => {
                    let result = file.finish();
                    open.note(result, &mut self.trouble);
                }
                Sink::Parquet(file, _) => {
                    let result = file.finish();
                    open.note(result, &mut self.trouble);
                }
                Sink::Datagrams(datagrams) => datagrams.finish(LAST_WAIT),
                Sink::Ipfix(collector) => {
                    collector.send();
                    collector.datagrams.finish(LAST_WAIT);
                }
            }
        }
        let messages = &self.trouble.messages;
        if let Some(clients) = &mut self.clients {
            for event in clients.finish(LAST_WAIT) {
                messages.info(event);
            }
        }
        for open in self.all.iter().filter(|open| open.lost() > 0) {
            let lost = open.lost();
            messages.warning(format_args!("{lost} records could not be written to {}", open.sink));
        }
        let watched = self.system.map_or(Ok(()), |system| system.finish(messages));
        match self.trouble.failure.or(watched.err()) {
            None => Ok(Exit::Done),
            Some(failure) => Err(failure),
        }
    }
}

impl Open {
    /// Whether records go there, and no answers of DNS.
    fn has_records(&self) -> bool {
        self.form != Form::PassiveDns
    }

    /// Whether there is place for records of something else than flows.
    const fn has_others(&self) -> bool {
        !matches!(self.sink, Sink::Ipfix(_) | Sink::Parquet(..))
    }

    fn push(&mut self, record: &[u8], trouble: &mut Trouble) {
        match &mut self.sink {
            Sink::File(_) if self.is_failing => self.lost += 1,
            Sink::File(file) => {
                let result = file.push(record);
                self.lost += u64::from(result.is_err());
                self.note(result, trouble);
            }
            Sink::Parquet(file, _) => {
                let result = file.push(record);
                self.lost += u64::from(result.is_err());
                self.note(result, trouble);
            }
            Sink::Datagrams(datagrams) => datagrams.push(record),
            Sink::Ipfix(_) => {}
        }
    }

    /// Writes what waits. Only with `checks`, looks whether a file was moved, and tries again what
    /// has failed.
    fn step(&mut self, checks: bool, forms: &mut Forms, trouble: &mut Trouble) {
        let result = match &mut self.sink {
            Sink::File(_) if self.is_failing && !checks => return,
            Sink::File(file) if self.is_failing => file.finish(),
            Sink::File(file) if checks => {
                let moved = file.reopen_if_moved(forms.first(self.form));
                moved.and_then(|_| file.flush())
            }
            Sink::File(file) => file.flush(),
            Sink::Ipfix(collector) if checks => return collector.send(),
            Sink::Datagrams(_) | Sink::Ipfix(_) | Sink::Parquet(..) => return,
        };
        self.note(result, trouble);
    }

    /// Takes the result of a write to a file.
    fn note(&mut self, result: io::Result<()>, trouble: &mut Trouble) {
        let messages = &trouble.messages;
        match result {
            Ok(()) if self.is_failing => {
                let lost = self.lost;
                messages
                    .warning(format_args!("{} accepts records again; {lost} were lost", self.sink));
                self.is_failing = false;
            }
            Ok(()) => {}
            Err(error) => {
                let new = Failure::not_written(Path::new(&self.sink.to_string()), &error);
                if !trouble.is_live {
                    trouble.failure.get_or_insert(new);
                } else if !self.is_failing {
                    messages.error(&new);
                }
                self.is_failing = true;
            }
        }
    }

    /// Records that were not accepted.
    fn lost(&self) -> u64 {
        match &self.sink {
            Sink::File(_) | Sink::Parquet(..) => self.lost,
            Sink::Datagrams(datagrams) => datagrams.lost(),
            // Of messages, each with several records.
            Sink::Ipfix(collector) => collector.datagrams.lost(),
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

    /// Sends the message, if it has a record.
    fn send(&mut self) {
        if let Some(length) = self.session.finish(&mut self.message, super::now_ns()) {
            self.datagrams.push(&self.message[..length]);
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => match file.path() {
                Some(path) => path.display().fmt(out),
                None => out.write_str("standard output"),
            },
            Self::Parquet(_, path) => path.display().fmt(out),
            Self::Datagrams(datagrams) => write!(out, "argus-udp://{}", datagrams.address()),
            Self::Ipfix(collector) => write!(out, "ipfix://{}", collector.datagrams.address()),
        }
    }
}

fn open(output: &Output, has_sizes: bool, forms: &mut Forms) -> Result<Open, Failure> {
    let filter = output.filter.as_deref().map(filter::of_output).transpose()?;
    // Readers know the file by its first record, whatever the filter is.
    let first = forms.first(output.form);
    let sink = match &output.to {
        Target::StandardOutput => RecordFile::standard_output(first).map(Sink::File),
        Target::File(path) => RecordFile::open(path, first).map(Sink::File),
        Target::Parquet(path) => {
            ParquetFile::create(path).map(|file| Sink::Parquet(Box::new(file), path.clone()))
        }
        Target::Datagrams(address) => Datagrams::open(*address).map(Sink::Datagrams),
        Target::Ipfix(address) => Datagrams::open(*address).map(|datagrams| {
            let domain = u32::from_be_bytes(forms.management.source_id.bytes());
            let session = Session::new(domain, TEMPLATES_NS).with_sizes(has_sizes);
            Sink::Ipfix(Box::new(Collector { datagrams, session, message: [0; MESSAGE_BYTES_MAX] }))
        }),
    };
    let sink = sink.map_err(|error| match &output.to {
        Target::StandardOutput => Failure::not_written(Path::new("standard output"), &error),
        Target::File(path) | Target::Parquet(path) => Failure::not_written(path, &error),
        Target::Datagrams(address) | Target::Ipfix(address) => {
            Failure::io(&error, Exit::Output, format_args!("cannot send to {address}"))
        }
    })?;
    Ok(Open { sink, form: output.form, filter, is_failing: false, lost: 0 })
}

/// Receives the records of some flows.
pub(super) struct Recording<'a> {
    outputs: &'a mut Outputs,
    options: &'a Options,
}

impl Reports for Recording<'_> {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        let ending;
        let mut record = record;
        if self.outputs.is_ending {
            ending = FlowRecord { cause: Cause::Shutdown, ..*record };
            record = &ending;
        }
        let Outputs { all, clients, system, forms, labels, trouble, .. } = &mut *self.outputs;
        let (owners, texts, mut labelled);
        let mut extra = extra;
        if system.is_some() || labels.is_some() {
            owners = system.as_ref().map(|system| system.seen(record)).unwrap_or_default();
            let owners = owners.each_ref().map(|owner| owner.as_ref().map(system::process));
            texts = system::labels(owners);
            labelled = Extra { owners, ..*extra };
            // What finds no room there is in JSON lines all the same.
            for text in &texts {
                let _ = labelled.labels.add(text);
            }
            if let Some(table) = labels {
                table.label(&record.key, &mut labelled.labels);
            }
            extra = &labelled;
        }
        let source_id = self.options.source_id;
        let matches = |filter: &RecordFilter| filter.matches(record, extra, source_id);
        forms.begin();
        for open in all {
            if !open.has_records() || !open.filter.as_ref().is_none_or(matches) {
                continue;
            }
            match &mut open.sink {
                Sink::Ipfix(collector) => collector.push(record, extra),
                _ => open.push(forms.flow(open.form, self.options, record, extra), trouble),
            }
        }
        if let Some(clients) = clients.as_mut().filter(|clients| clients.count() > 0) {
            clients.push(forms.flow(Form::Argus, self.options, record, extra), matches);
        }
    }

    fn resolved(&mut self, resolution: &Resolution<'_>) {
        let Outputs { all, forms, trouble, .. } = &mut *self.outputs;
        for open in all.iter_mut().filter(|open| !open.has_records()) {
            open.push(forms.resolution(self.options, resolution), trouble);
        }
    }
}
