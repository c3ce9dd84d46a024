//! Clients: what their filters look at, and where they connect.

use std::net::{Ipv4Addr, SocketAddr};

use panoptes_records::flow::{Cause, Extra, FlowRecord, Jitter};
use panoptes_sinks::flow::argus::{Management, SourceId};
use panoptes_sinks::flow::filter::RecordFilter;
use panoptes_sinks::flow::output::{ClientSettings, ClientThread, Clients};

use super::filter;
use super::request::FlowRequest;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::sandbox::Role;

/// What filters look at.
#[derive(Debug)]
pub(super) struct ClientFilterInput {
    /// `None` for a management record.
    flow: Option<(FlowRecord, Option<Jitter>)>,
    source_id: SourceId,
    cause: Cause,
}

impl ClientFilterInput {
    pub(super) fn flow(record: &FlowRecord, extra: &Extra<'_>, source_id: SourceId) -> Self {
        let flow = Some((*record, extra.jitter.copied()));
        Self { flow, source_id, cause: record.cause }
    }

    pub(super) const fn management(source_id: SourceId, cause: Cause) -> Self {
        Self { flow: None, source_id, cause }
    }

    fn matches(filter: &RecordFilter, subject: &Self) -> bool {
        match &subject.flow {
            Some((record, jitter)) => {
                let extra = Extra { jitter: jitter.as_ref(), ..Extra::default() };
                filter.matches(record, &extra, subject.source_id)
            }
            None => filter.matches_management(subject.source_id, subject.cause),
        }
    }
}

/// The ports where clients connect. They are opened before the program gives up its privileges.
pub(super) fn listen(
    request: &FlowRequest,
    messages: &Messages,
) -> Result<Option<Clients<RecordFilter>>, Failure> {
    if request.clients.port == 0 {
        return Ok(None);
    }
    let (any, own) = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into());
    let addresses = match &request.clients.bind {
        Some(bind) if !bind.is_empty() => bind.clone(),
        Some(_) => vec![any],
        None if request.is_argus => {
            messages.warning(format_args!(
                "clients of any address may connect to port {}, as to argus(8): -B names addresses",
                request.clients.port
            ));
            vec![any]
        }
        None => vec![own],
    };
    let addresses: Vec<_> = addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, request.clients.port))
        .collect();
    let clients = Clients::listen(&addresses, request.clients.access.clone(), filter::of_client);
    clients
        .map(Some)
        .map_err(|error| Failure::new(Exit::from_io(&error.error, Exit::Source), error.to_string()))
}

/// Starts the thread that serves them.
pub(super) fn serve(
    clients: Clients<RecordFilter>,
    management: Management,
    waits: bool,
    messages: &Messages,
) -> Result<ClientThread<ClientFilterInput>, Failure> {
    let first = Box::new(move || management.first(super::now_ns()).to_vec());
    let greeting = ClientSettings { first, matches: ClientFilterInput::matches, waits };
    let messages = messages.clone();
    let started = ClientThread::start(clients, greeting, move || Role::Clients.enter(&messages));
    started.map_err(|error| Failure::io(&error, Exit::Failed, "cannot serve clients"))
}
