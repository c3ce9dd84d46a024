//! The port for metrics, and the thread that answers requests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::config::NetworkAddress;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::sandbox::Role;
use crate::watch::metrics::{self, Figures, Server};
use crate::watch::threads::OtherCores;

/// Opens the port for metrics, if they are wanted.
pub(super) fn bind_metrics(
    address: Option<&NetworkAddress>,
    messages: &Messages,
) -> Result<Option<Server>, Failure> {
    metrics::bind(address, messages).map_err(|error: io::Error| {
        let address = address.map(ToString::to_string).unwrap_or_default();
        Failure::io(&error, Exit::Output, format_args!("output.metrics.address: {address}"))
    })
}

/// Starts a thread that answers requests for metrics, until `stop`.
pub(super) fn serve_metrics(
    server: Server,
    stop: &Arc<AtomicBool>,
    figures: &Arc<Figures>,
    cores: OtherCores,
    messages: &Arc<Messages>,
) -> Result<(), Failure> {
    let (figures, messages, stop) = (Arc::clone(figures), Arc::clone(messages), Arc::clone(stop));
    cores.spawn("metrics", move || {
        Role::Metrics.enter(&messages);
        figures.serve(&server, &stop, &messages);
    })
}
