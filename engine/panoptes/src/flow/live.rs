//! Live interfaces: their packets to the auditor, until a signal ends the program.

use panoptes_packet_files::SkippedCounts;

use super::auditor::{Auditor, management};
use super::outputs::Outputs;
use super::process::{PidFile, PidFileKeeper, RunAsIdentity};
use super::request::FlowRequest;
use super::signals::Signals;
use super::{clients, system, tables, threads};
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// Audits network interfaces until a signal ends the program.
pub(super) fn audit(
    request: &FlowRequest,
    signals: &Signals,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let begin_ns = super::now_ns();
    let mut all = threads::open(request, Vec::new())?;
    let request = &all[0].request().clone();
    tables::check_room(request)?;
    threads::start(&mut all, messages)?;
    let identity = RunAsIdentity::find(request)?;
    let clients = clients::listen(request, messages)?;
    let name = &all[0].names()[0];
    let has_pid_file = request.process.is_daemon && request.process.has_pid_file;
    let pid_file =
        has_pid_file.then(|| PidFile::make(&request.process.pid_folder, name)).transpose()?;
    let attached = system::attach_beside(request, messages)?;
    identity.assume(all[0].role(), attached.as_ref(), messages)?;
    let common = management(request, begin_ns, all[0].link());
    let outputs = Outputs::open(request, common, clients, attached, (signals, messages))?;
    super::go_on(request, messages)?;
    let mut auditor = Auditor::new(request, outputs, begin_ns);
    let keeper = pid_file.map(PidFileKeeper::start).transpose();
    let _keeper =
        keeper.map_err(|error| Failure::io(&error, Exit::Failed, "cannot keep the PID file"))?;
    let audited = threads::audit(all, &mut auditor, signals, messages);
    // What was read before a thread has failed has its records all the same.
    let (missing, failure) = match audited {
        Ok(missing) => (missing, None),
        Err(failure) => (auditor.missing(), Some(failure)),
    };
    let (wrong_times, unread) = (auditor.wrong_times(), auditor.unread());
    let (counts, exit) = auditor.finish(missing);
    super::report_losses(SkippedCounts::default(), (counts, wrong_times, &unread), messages);
    super::report_unread(&unread, messages);
    if missing.mirrors > 0 {
        messages.warning(format_args!("{} datagrams held no mirrored packet", missing.mirrors));
    }
    let dropped = missing.packets;
    if dropped > 0 {
        let all = counts.packets + dropped;
        messages.warning(format_args!("{dropped} of {all} packets were lost: they came too fast"));
    }
    failure.map_or(exit, Err)
}
