//! Reports a start that has failed, on the outputs that can be opened.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use panoptes_sinks::activities::Activity;
use panoptes_sinks::queue::{Waker, queue};
use panoptes_sinks::writer::Writer;

use super::clocks::nanoseconds;
use super::outputs::{LogFolder, Receivers, wanted};
use super::system_events::{SystemEvents, because};
use super::system_logs::SystemLogs;
use crate::exit::Failure;
use crate::interfaces::of_this_machine;
use crate::memory::CONTROL_QUEUE;
use crate::message::Messages;
use crate::request::WatchRequest;

/// Writes `service_initialization_failed`. The outputs of the start are closed by now.
pub(super) fn report(request: &WatchRequest, failure: &Failure, messages: &Arc<Messages>) {
    let configuration = &request.configuration;
    let folder = LogFolder::take(&configuration.output, &[]).ok().flatten();
    let wanted = wanted(configuration, request.stdout, folder.as_ref(), &Receivers::NONE);
    let Ok(wanted) = wanted else { return };
    let outputs = wanted.iter().filter_map(|output| output.recipe.open().ok()).collect();
    let waker = Waker::default();
    let (producer, consumer) = queue(CONTROL_QUEUE, &waker);
    let (changes, changed_outputs) = channel();
    let mut writer = Writer::with_changes(vec![consumer], outputs, changed_outputs);
    let logs = SystemLogs::new(None, (changes, waker), Arc::clone(messages));
    let interfaces = of_this_machine().unwrap_or_default();
    let mut events = SystemEvents::new(producer, configuration, interfaces, (logs, &wanted));
    events.service(Activity::ServiceInitializationFailed, &because(&failure.message));
    drop(events);
    let begin = Instant::now();
    writer.finish(&|| nanoseconds(begin.elapsed()));
}
