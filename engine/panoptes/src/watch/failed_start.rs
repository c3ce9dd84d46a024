//! Reports a start that has failed, on the outputs that can be opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use panoptes_records::activities::Activity;
use panoptes_records::queue::{Waker, queue};
use panoptes_sinks::writer::Writer;

use super::clocks::nanoseconds;
use super::outputs::{LogFolder, Receivers, wanted};
use super::signals::{Signals, StopRequest};
use super::system_events::{SystemEvents, because};
use super::system_logs::{SystemLogs, openers};
use super::threads::OtherCores;
use crate::exit::Failure;
use crate::interfaces::of_this_machine;
use crate::memory::CONTROL_QUEUE;
use crate::message::Messages;
use crate::request::WatchRequest;

/// How often this thread looks whether the writer's has ended.
const WRITER_END_INTERVAL: Duration = Duration::from_millis(5);
/// How long outputs may take to note what they have not sent.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// How long the outputs may take: a receiver may be away, or a disk not answer.
const PATIENCE: Duration = Duration::from_secs(10);
const _: () = {
    assert!(WRITER_END_INTERVAL.as_nanos() < STOP_PATIENCE.as_nanos());
    assert!(STOP_PATIENCE.as_nanos() < PATIENCE.as_nanos());
};

/// Writes `service_initialization_failed`. The outputs of the start are closed by now. A request to
/// stop ends that.
pub(super) fn report(
    request: &WatchRequest,
    failure: &Failure,
    messages: &Arc<Messages>,
    signals: &Signals,
) {
    let configuration = &request.configuration;
    let folder = LogFolder::take(&configuration.output, &[]).ok().flatten();
    let wanted = wanted(configuration, request.stdout, folder.as_ref(), &Receivers::NONE);
    let Ok(wanted) = wanted else { return };
    let outputs = wanted.iter().filter_map(|output| output.recipe.open().ok()).collect();
    let waker = Waker::default();
    let (producer, consumer) = queue(CONTROL_QUEUE, &waker);
    let (changes, changed_outputs) = channel();
    let mut writer = Writer::with_changes(vec![consumer], outputs, changed_outputs);
    let openers = openers(OtherCores::without(&[]), signals.waker());
    let logs = SystemLogs::new(None, (changes, waker), openers, messages);
    let interfaces = of_this_machine().unwrap_or_default();
    let mut events = SystemEvents::new(producer, configuration, interfaces, (logs, &wanted));
    events.service(Activity::ServiceInitializationFailed, &because(&failure.message));
    drop(events);
    let (begin, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let write = move || writer.run(&|| nanoseconds(begin.elapsed()), &stopped);
    // Without a thread, the failure is in the messages alone.
    let Ok(thread) = thread::Builder::new().spawn(write) else { return };
    while !thread.is_finished() && begin.elapsed() < PATIENCE {
        if signals.wait(WRITER_END_INTERVAL) == Some(StopRequest::Stop) {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let end = Instant::now();
    while !thread.is_finished() && end.elapsed() < STOP_PATIENCE {
        sleep(WRITER_END_INTERVAL);
    }
}
