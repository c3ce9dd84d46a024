//! Where records go: files, standard output, datagrams, collectors of IPFIX, clients, the service.
//!
//! A record is written once in each form and given to each output whose filter matches it.

use std::sync::Arc;

use panoptes_flow::Reports;
use panoptes_records::activities::Activity;
use panoptes_records::flow::{Cause, Extra, FlowRecord, NameResolution};
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_sinks::flow::argus::{ArgusOptions, Interim, Management};
use panoptes_sinks::flow::filter::RecordFilter;
use panoptes_sinks::flow::output::{ClientEvent, ClientThread, Clients, QUEUE_BYTES};

use super::clients::{self, ClientFilterInput};
use super::figures::SensorFigures;
use super::forms::Forms;
use super::labels::LabelTable;
use super::live_output::Loss;
use super::open_output::{Open, OutputWaiter, Trouble};
use super::patience::{LAST_WAIT, Patience};
use super::request::{FlowRecordForm, FlowRequest};
use super::sensor_records::{SensorRecords, plain_header};
use super::service_output::ServiceOutput;
use super::signals::Signals;
use super::system::{self, OpenSystem, ScanLosses, SharedSystem, WatchedSystem};
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// How often files are looked at, and how long a record waits at most for an IPFIX message to fill.
const CHECK_NS: u64 = 1_000_000_000;
/// Bytes that wait for an output of an endpoint, which has little memory.
const ENDPOINT_QUEUE_BYTES: usize = 1 << 20;

/// All outputs.
#[derive(Debug)]
pub(super) struct Outputs {
    all: Vec<Open>,
    clients: Option<ClientThread<ClientFilterInput>>,
    /// The service in which the sensor runs.
    service: Option<ServiceOutput>,
    /// Records that no client has got, as far as that was reported.
    lost_by_clients: u64,
    /// The system whose packets these are.
    system: Option<WatchedSystem>,
    forms: Forms,
    records: SensorRecords,
    labels: Option<Arc<LabelTable>>,
    trouble: Trouble,
    signals: Signals,
    next_check_ns: u64,
    /// The records to come are the last ones of flows that have not ended.
    is_ending: bool,
    /// How long the last records wait for room; `None` before them.
    patience: Option<Patience>,
}

impl Outputs {
    pub(super) fn open(
        request: &FlowRequest,
        management: Management,
        clients: Option<Clients<RecordFilter>>,
        attached: Option<OpenSystem>,
        (signals, messages): (&Signals, &Messages),
    ) -> Result<Self, Failure> {
        let mut outputs = Self::none(request, management, (signals, messages));
        let both = attached.zip(request.beside.as_ref());
        let mut system = both
            .map(|(attached, beside)| WatchedSystem::start(attached, &beside.alerts, messages))
            .transpose()?;
        if let Some(records) = system.as_mut().and_then(WatchedSystem::take_records) {
            outputs.records = records;
        }
        let has_sizes = request.records.options.packet_sizes;
        let (is_live, forms) = (outputs.trouble.is_live, &mut outputs.forms);
        let bytes = if request.is_endpoint { ENDPOINT_QUEUE_BYTES } else { QUEUE_BYTES };
        let nobody = OutputWaiter::Nobody(messages, bytes);
        let waiting = if is_live { nobody } else { OutputWaiter::Reader(signals) };
        let all = request.outputs.iter();
        let all = all.map(|output| Open::new(output, has_sizes, forms, &waiting));
        outputs.all = all.collect::<Result<Vec<_>, _>>()?;
        outputs.clients = clients
            .map(|clients| clients::serve(clients, management, !is_live, messages))
            .transpose()?;
        outputs.system = system;
        Ok(outputs)
    }

    /// That of a sensor in the service.
    pub(super) fn of_service(
        request: &FlowRequest,
        management: Management,
        (mut service, system): (ServiceOutput, Option<SharedSystem>),
        of_process: (&Signals, &Messages),
    ) -> Self {
        let mut outputs = Self::none(request, management, of_process);
        service.push(outputs.forms.first(FlowRecordForm::Json), false);
        let system = system.map(WatchedSystem::of_service);
        Self { service: Some(service), system, ..outputs }
    }

    /// Without a place for records.
    fn none(
        request: &FlowRequest,
        management: Management,
        (signals, messages): (&Signals, &Messages),
    ) -> Self {
        let is_live = !request.reads_captures();
        Self {
            all: Vec::new(),
            clients: None,
            service: None,
            lost_by_clients: 0,
            system: None,
            forms: Forms::new(request.user_bytes_max(), management),
            records: SensorRecords::new(plain_header(), Vec::new()),
            labels: request.records.labels.clone(),
            trouble: Trouble { is_live, failure: None, messages: messages.clone() },
            signals: signals.clone(),
            next_check_ns: 0,
            is_ending: false,
            patience: None,
        }
    }

    /// What the service shows of its sensor.
    pub(super) fn figures(&self) -> Option<&Arc<SensorFigures>> {
        self.service.as_ref().map(ServiceOutput::figures)
    }

    /// Whether no output needs more: one has failed, or all their readers have gone.
    pub(super) fn has_ended(&self) -> bool {
        self.trouble.failure.is_some()
            || self.clients.is_none()
                && !self.all.is_empty()
                && self.all.iter().all(Open::has_ended)
    }

    /// What scans of the system beside the packets do not show. To be called each second.
    pub(super) fn scans(&mut self) -> ScanLosses {
        self.system.as_mut().map(WatchedSystem::look_at_scans).unwrap_or_default()
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.as_ref().map_or(0, ClientThread::count)
    }

    /// The records to come are the last ones. Those of live flows have the cause that the sensor
    /// ends; at the ends of captures argus gives no such cause.
    pub(super) fn begin_to_end(&mut self) {
        self.is_ending = self.trouble.is_live;
        self.wait_for_room();
    }

    /// Lets the records to come wait for room: all flows end at once, and no packet waits any more.
    pub(super) fn wait_for_room(&mut self) {
        if self.patience.is_some() {
            return;
        }
        let patience = Patience::begin(&self.signals);
        for open in &mut self.all {
            open.wait_for_room(&patience);
        }
        self.patience = Some(patience);
    }

    /// Receives the records of flows that have these options.
    pub(super) const fn of<'a>(&'a mut self, options: &'a ArgusOptions) -> FlowRecorder<'a> {
        FlowRecorder { outputs: self, options }
    }

    /// Writes what waits, looks at files, and serves clients. `now_ns` never goes back.
    pub(super) fn step(&mut self, now_ns: u64) {
        let checks = now_ns >= self.next_check_ns;
        if checks {
            self.next_check_ns = now_ns + CHECK_NS;
        }
        for open in &mut self.all {
            open.step(checks, &mut self.trouble);
        }
        if let Some(clients) = &mut self.clients {
            clients.pass_on();
        }
        if let Some(service) = &mut self.service {
            service.step(now_ns);
        }
        if checks {
            self.report_losses(Some(now_ns));
        }
    }

    /// Reports the outputs that fail, and what they lose; `None` is the end.
    fn report_losses(&mut self, now_ns: Option<u64>) {
        for at in 0..self.all.len() {
            let loss = self.all[at].look(now_ns, &self.trouble.messages);
            if let Some(loss) = loss {
                self.report_loss(&loss);
            }
        }
        let alerts = self.system.as_ref().and_then(|system| system.look(now_ns));
        if let Some(loss) = alerts {
            self.report_loss(&loss);
        }
        self.report_loss_of_queue(now_ns);
        self.report_clients();
    }

    /// Reports what operators want to know of clients, and the records that they lost.
    fn report_clients(&mut self) {
        let Some(clients) = &self.clients else { return };
        let (events, lost) = clients.news();
        if let Some(loss) = self.note_clients(events, lost) {
            self.report_loss(&loss);
        }
    }

    /// Notes what clients did, and what they lost in all. The loss, if it is new.
    fn note_clients(&mut self, events: Vec<ClientEvent>, lost: u64) -> Option<Loss> {
        let messages = &self.trouble.messages;
        for event in events {
            messages.info(event);
        }
        let new = lost.checked_sub(self.lost_by_clients).filter(|new| *new > 0)?;
        self.lost_by_clients = lost;
        let reason = "clients could not accept records in time".to_owned();
        messages.warning(format_args!("{reason}: {new} records"));
        Some(Loss { output: "clients".to_owned(), reason, dropped: Some(new) })
    }

    /// Reports what the queue of the service has lost; `None` is the end.
    fn report_loss_of_queue(&mut self, now_ns: Option<u64>) {
        let loss = self.service.as_mut().and_then(|service| service.look(now_ns));
        let Some(loss) = loss else { return };
        self.report_dropped(&loss.output, &loss.reason, loss.dropped.unwrap_or(0));
    }

    /// Reports that so many records came to no output at all.
    pub(super) fn report_dropped(&mut self, output: &str, reason: &str, dropped: u64) {
        self.trouble.messages.warning(format_args!("{dropped} records were lost: {reason}"));
        let (output, reason) = (output.to_owned(), reason.to_owned());
        self.report_loss(&Loss { output, reason, dropped: Some(dropped) });
    }

    fn report_loss(&mut self, loss: &Loss) {
        let activity = match loss.dropped {
            Some(_) => Activity::RecordsDropped,
            None => Activity::DetailsGatheringFailed,
        };
        self.report_activity(
            activity,
            &SystemActivityDetails {
                reason: loss.reason.as_str().into(),
                output: Some(loss.output.as_str().into()),
                dropped: loss.dropped,
                ..SystemActivityDetails::default()
            },
        );
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
        if let Some(service) = &mut self.service {
            service.push(self.forms.state(FlowRecordForm::Json, cause, interim), self.is_ending);
        }
        if let Some(clients) = &mut self.clients {
            let subject = ClientFilterInput::management(source_id, cause);
            clients.push(self.forms.state(FlowRecordForm::Argus, cause, interim), subject);
        }
    }

    /// Writes a system activity: a record as those of `panoptes watch`, to JSON lines and alerts.
    /// In the service, its control thread does that.
    pub(super) fn report_activity(
        &mut self,
        activity: Activity,
        details: &SystemActivityDetails<'_>,
    ) {
        if let Some(service) = &self.service {
            return service.report(activity, details);
        }
        let Some(line) = self.records.write(activity, details) else { return };
        let source_id = self.forms.management.source_id;
        let matches = |filter: &RecordFilter| filter.matches_management(source_id, Cause::Status);
        for open in &mut self.all {
            if open.form == FlowRecordForm::Json
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

    /// Reports what has happened to the sensor, as a message and as a record.
    pub(super) fn report(&mut self, activity: Activity, reason: &str) {
        self.trouble.messages.warning(reason);
        let details =
            SystemActivityDetails { reason: reason.into(), ..SystemActivityDetails::default() };
        self.report_activity(activity, &details);
    }

    /// Writes the last management record and everything that waits.
    pub(super) fn finish(mut self, interim: &Interim) -> Result<Exit, Failure> {
        if self.trouble.is_live {
            // Outputs that still accept records have each loss so far.
            self.all.iter_mut().for_each(|open| open.step(false, &mut self.trouble));
            self.report_losses(None);
        }
        self.report_state(Cause::Stop, interim);
        // What fails now ends the program with an error, in any case.
        self.trouble.is_live = false;
        self.report_loss_of_queue(None);
        if let Some(service) = &mut self.service {
            service.finish();
        }
        let patience = self.patience.take().unwrap_or_else(|| Patience::begin(&self.signals));
        if let Some(clients) = &mut self.clients {
            clients.close(LAST_WAIT);
        }
        // What clients lose from here on is in no record: these outputs end.
        self.report_clients();
        // One that hangs takes no time from the others.
        self.all.iter_mut().for_each(Open::close);
        for open in &mut self.all {
            open.finish(&patience, &mut self.trouble);
        }
        self.finish_clients();
        let messages = &self.trouble.messages;
        let watched = self.system.map_or(Ok(()), |system| system.finish(&patience, messages));
        match self.trouble.failure.or(watched.err()) {
            None => Ok(Exit::Done),
            Some(failure) => Err(failure),
        }
    }

    /// Waits for the thread of clients. A signal ends that, as it ends the wait for outputs.
    fn finish_clients(&mut self) {
        let Some(clients) = &mut self.clients else { return };
        let patience = Patience::begin(&self.signals);
        let (events, lost) = clients.finish(|| patience.goes_on());
        self.note_clients(events, lost);
        if lost > 0 {
            let message = format!("{lost} records could not be sent to clients");
            self.trouble.failure.get_or_insert_with(|| Failure::new(Exit::Output, message));
        }
    }
}

/// Receives the records of some flows.
pub(super) struct FlowRecorder<'a> {
    outputs: &'a mut Outputs,
    options: &'a ArgusOptions,
}

impl Reports for FlowRecorder<'_> {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        let ending;
        let mut record = record;
        if self.outputs.is_ending {
            ending = FlowRecord { cause: Cause::Shutdown, ..*record };
            record = &ending;
        }
        let Outputs { all, clients, service, system, forms, labels, trouble, patience, .. } =
            &mut *self.outputs;
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
            if !open.push_fields(record, extra) {
                open.push(forms.flow(open.form, self.options, record, extra), trouble);
            }
        }
        if let Some(service) = service {
            let may_wait = patience.is_some();
            service.push(forms.flow(FlowRecordForm::Json, self.options, record, extra), may_wait);
        }
        if let Some(clients) = clients.as_mut().filter(|clients| clients.count() > 0) {
            let subject = ClientFilterInput::flow(record, extra, source_id);
            clients.push(forms.flow(FlowRecordForm::Argus, self.options, record, extra), subject);
            if !trouble.is_live {
                clients.make_room(LAST_WAIT);
            }
        }
    }

    fn resolved(&mut self, resolution: &NameResolution<'_>) {
        let Outputs { all, forms, trouble, .. } = &mut *self.outputs;
        for open in all.iter_mut().filter(|open| !open.has_records()) {
            open.push(forms.resolution(self.options, resolution), trouble);
        }
    }
}
