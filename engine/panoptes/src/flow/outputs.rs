//! Where records go: files, standard output, datagrams, clients.
//!
//! A record is written once as bytes and given to each output whose filter matches it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use panoptes_flow::Reports;
use panoptes_sinks::flow::argus::{
    self, Extra, Interim, Management, Options, PLAIN_BYTES_MAX, USER_BYTES_MAX,
};
use panoptes_sinks::flow::filter::RecordFilter;
use panoptes_sinks::flow::output::{Clients, Datagrams, RecordFile};
use panoptes_sinks::flow::{Cause, FlowRecord};

use super::filter;
use super::request::{Output, Request, Target};
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// How long the end of the program waits for receivers.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// How often files are looked at.
const CHECK_NS: u64 = 1_000_000_000;

/// All outputs.
#[derive(Debug)]
pub(super) struct Outputs {
    all: Vec<Open>,
    clients: Option<Clients<RecordFilter>>,
    management: Management,
    /// Room for one record.
    bytes: Box<[u8]>,
    /// An output that fails ends the program, unless live packets are read.
    is_live: bool,
    /// The records to come are the last ones of flows that have not ended.
    is_ending: bool,
    failure: Option<Failure>,
    messages: Messages,
    next_check_ns: u64,
}

/// An open output.
#[derive(Debug)]
struct Open {
    sink: Sink,
    filter: Option<RecordFilter>,
    /// Whether the last write has failed, and how many records were not accepted since then.
    is_failing: bool,
    lost: u64,
}

#[derive(Debug)]
enum Sink {
    File(RecordFile),
    Datagrams(Datagrams),
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
        messages: &Messages,
    ) -> Result<Self, Failure> {
        let first = management.first(super::now_ns());
        let all = request.outputs.iter().map(|output| open(output, &first));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        let length = PLAIN_BYTES_MAX + 2 * request.user_bytes.min(USER_BYTES_MAX);
        Ok(Self {
            all,
            clients,
            management,
            bytes: vec![0; length].into_boxed_slice(),
            is_live: !request.reads_captures(),
            is_ending: false,
            failure: None,
            messages: messages.clone(),
            next_check_ns: 0,
        })
    }

    /// Whether no output needs more: one has failed, or all their readers have gone.
    pub(super) fn has_ended(&self) -> bool {
        let has_ended = |open: &Open| matches!(&open.sink, Sink::File(file) if file.has_ended());
        self.failure.is_some()
            || self.clients.is_none() && !self.all.is_empty() && self.all.iter().all(has_ended)
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.as_ref().map_or(0, Clients::count)
    }

    /// The records to come are the last ones. Those of live flows have the cause that the sensor
    /// ends; at the ends of captures argus gives no such cause.
    pub(super) const fn begin_to_end(&mut self) {
        self.is_ending = self.is_live;
    }

    /// Receives the records of flows that have this id.
    pub(super) const fn of<'a>(&'a mut self, options: &'a Options) -> Recording<'a> {
        Recording { outputs: self, options }
    }

    /// Writes what waits, looks at files, and serves clients. `now_ns` never goes back.
    pub(super) fn step(&mut self, now_ns: u64) {
        let first = self.management.first(super::now_ns());
        let checks = now_ns >= self.next_check_ns;
        if checks {
            self.next_check_ns = now_ns + CHECK_NS;
        }
        for open in &mut self.all {
            let Sink::File(file) = &mut open.sink else { continue };
            // What has failed is tried again at each check only.
            let result = match (open.is_failing, checks) {
                (true, false) => continue,
                (true, true) => file.finish(),
                (false, true) => file.reopen_if_moved(&first).and_then(|_| file.flush()),
                (false, false) => file.flush(),
            };
            open.note(result, self.is_live, &mut self.failure, &self.messages);
        }
        if let Some(clients) = &mut self.clients {
            for event in clients.step(&first, now_ns) {
                self.messages.info(event);
            }
        }
    }

    /// Writes a management record to all outputs.
    pub(super) fn report_state(&mut self, interim: &Interim) {
        let record = self.management.interim(interim);
        let source_id = self.management.source_id;
        self.push(&record, |filter| filter.matches_management(source_id, Cause::Status));
    }

    fn push(&mut self, record: &[u8], matches: impl Fn(&RecordFilter) -> bool) {
        for open in &mut self.all {
            if open.filter.as_ref().is_none_or(&matches) {
                open.push(record, self.is_live, &mut self.failure, &self.messages);
            }
        }
        if let Some(clients) = &mut self.clients {
            clients.push(record, matches);
        }
    }

    /// Writes the last management record and everything that waits.
    pub(super) fn finish(mut self, interim: &Interim) -> Result<Exit, Failure> {
        let last = self.management.last(interim);
        let source_id = self.management.source_id;
        self.push(&last, |filter| filter.matches_management(source_id, Cause::Stop));
        for open in &mut self.all {
            match &mut open.sink {
                Sink::File(file) => {
                    let result = file.finish();
                    open.note(result, false, &mut self.failure, &self.messages);
                }
                Sink::Datagrams(datagrams) => datagrams.finish(LAST_WAIT),
            }
        }
        if let Some(clients) = &mut self.clients {
            for event in clients.finish(LAST_WAIT) {
                self.messages.info(event);
            }
        }
        self.report_lost();
        match self.failure {
            None => Ok(Exit::Done),
            Some(failure) => Err(failure),
        }
    }

    fn report_lost(&self) {
        for open in &self.all {
            let (lost, to) = match &open.sink {
                Sink::File(file) => (open.lost, name(file.path())),
                Sink::Datagrams(datagrams) => {
                    (datagrams.lost(), format!("argus-udp://{}", datagrams.address()))
                }
            };
            if lost > 0 {
                self.messages.warning(format_args!("{lost} records could not be written to {to}"));
            }
        }
    }
}

impl Open {
    fn push(
        &mut self,
        record: &[u8],
        is_live: bool,
        failure: &mut Option<Failure>,
        messages: &Messages,
    ) {
        match &mut self.sink {
            Sink::File(_) if self.is_failing => self.lost += 1,
            Sink::File(file) => {
                let result = file.push(record);
                self.lost += u64::from(result.is_err());
                self.note(result, is_live, failure, messages);
            }
            Sink::Datagrams(datagrams) => datagrams.push(record),
        }
    }

    /// Takes the result of a write.
    fn note(
        &mut self,
        result: std::io::Result<impl Sized>,
        is_live: bool,
        failure: &mut Option<Failure>,
        messages: &Messages,
    ) {
        let Sink::File(file) = &self.sink else { return };
        match result {
            Ok(_) if self.is_failing => {
                let (lost, to) = (self.lost, name(file.path()));
                messages.warning(format_args!("{to} accepts records again; {lost} were lost"));
                self.is_failing = false;
            }
            Ok(_) => {}
            Err(error) => {
                let path = file.path().unwrap_or(Path::new("standard output"));
                let new = Failure::not_written(path, &error);
                if !is_live {
                    failure.get_or_insert(new);
                } else if !self.is_failing {
                    messages.error(&new);
                }
                self.is_failing = true;
            }
        }
    }
}

fn name(path: Option<&Path>) -> String {
    path.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string())
}

fn open(output: &Output, first: &[u8]) -> Result<Open, Failure> {
    let filter = output.filter.as_deref().map(filter::of_output).transpose()?;
    // Without management records, a reader could not tell what wrote the file: they are always
    // first, also where a filter leaves out later ones.
    let sink = match &output.to {
        Target::StandardOutput => RecordFile::standard_output(first).map(Sink::File),
        Target::File(path) => RecordFile::open(path, first).map(Sink::File),
        Target::Datagrams(address) => Datagrams::open(*address).map(Sink::Datagrams),
    };
    let sink = sink.map_err(|error| match &output.to {
        Target::StandardOutput => Failure::not_written(Path::new("standard output"), &error),
        Target::File(path) => Failure::not_written(path, &error),
        Target::Datagrams(address) => {
            Failure::io(&error, Exit::Output, format_args!("cannot send to {address}"))
        }
    })?;
    Ok(Open { sink, filter, is_failing: false, lost: 0 })
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
        let mut bytes = std::mem::take(&mut self.outputs.bytes);
        if let Some(length) = argus::write(&mut bytes, self.options, record, extra) {
            let source_id = self.options.source_id;
            let matches = |filter: &RecordFilter| filter.matches(record, extra, source_id);
            self.outputs.push(&bytes[..length], matches);
        }
        self.outputs.bytes = bytes;
    }
}
