//! What a worker does for a system: searches its kernel and allocates the state for watching it.
//!
//! A search may take minutes: memory may be large, and a hostile guest may have many candidates of
//! kernels. It ends soon after it is cancelled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use panoptes_engine::detect::binary_attestation::ShippedFiles;
use panoptes_engine::detect::hidden_connections::TrafficLink;
use panoptes_engine::policy::exceptions::Exceptions;
use panoptes_engine::system::{AttachError, Stop, find_kernel};
use panoptes_engine::walk::Walker;
use panoptes_engine::watch::{LastContact, Setup, WatchedMachine};
use panoptes_profiles::{Event, Profile};
use panoptes_records::record::header::RecordHeader;
use panoptes_sources::{AnySource, MachineSource as _, lock_own_memory};
use panoptes_tables::room;
use uuid::Uuid;

use super::candidate::Outside;
use super::in_use::{AddressUse, InUse};
use super::one_machine::{DmaMachine, FunctionInUse, MachineMatch, Machines};
use crate::attach::{
    Observer, ProfileProblem, attach, find_guest, log_event, log_source, open_with, options,
    profile_files, warn_losses,
};
use crate::boot_ids::{BootIds, BootKey};
use crate::config::{Configuration, System, SystemAddress};
use crate::dma::Regions;
use crate::exit::{Exit, Failure};
use crate::guests;
use crate::memory::{Promise, PromisedMemory, check_system, first_walker};
use crate::message::Messages;
use crate::watch::clock_watch::KernelIdentity;
use crate::watch::missing_facts::Topic;
use crate::watch::system_events::{Notice, SearchEvents};
use crate::watched::{kind_of_copy, setup};

/// Guests that are named are taken from a search of processes that is at most this old.
const CENSUS_AGE: Duration = Duration::from_millis(500);

/// The task to attach to a system, with all that it needs.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(super) struct AttachTask {
    pub(super) system: Arc<System>,
    pub(super) configuration: Configuration,
    pub(super) shipped: Arc<ShippedFiles>,
    pub(super) exceptions: Arc<Exceptions>,
    /// The header of the system's records.
    pub(super) header: RecordHeader,
    pub(super) boot_ids: Arc<BootIds>,
    pub(super) in_use: InUse,
    pub(super) machines: Machines,
    /// What the system shares with the sensor of flows, if its packets are those.
    pub(super) traffic_link: Option<Arc<TrafficLink>>,
    /// Whether `auto_scan` has found the system.
    pub(super) is_found: bool,
    /// The function that was used instead of this one until now.
    pub(super) spare_of: Option<SystemAddress>,
    /// The guest that the system was, if it is named by that guest.
    pub(super) owner: Option<guests::GuestNameOwner>,
    pub(super) census: Arc<Mutex<guests::Census>>,
    pub(super) messages: Arc<Messages>,
    /// Memory that is about to be used.
    pub(super) promised: PromisedMemory,
    /// Reads the first process of each system. It is large, so all searches share it.
    pub(super) walker: Arc<Mutex<Walker>>,
    /// Receives what the search reports.
    pub(super) notices: Sender<Notice>,
    /// The users whose guests may be read.
    pub(super) users: guests::Users,
    pub(super) is_retry: bool,
    /// How far the system was watched before contact was lost.
    pub(super) seen: Option<LastContact>,
    /// Whether an earlier attempt has failed: then no progress is reported.
    pub(super) is_silent: bool,
    /// Whether to wait for a kernel that is still starting.
    pub(super) is_patient: bool,
    /// Whether an earlier failure was reported: then this one is not.
    pub(super) is_failure_reported: bool,
}

/// A system that is ready to be watched.
#[derive(Debug)]
pub(super) struct AttachedSystem {
    pub(super) watched: Box<WatchedMachine>,
    pub(super) source: AnySource,
    /// Where its memory is: a guest that is named has a process now.
    pub(super) address: SystemAddress,
    /// The guest that the system is named by.
    pub(super) owner: Option<guests::GuestNameOwner>,
    /// The use of that address, if the system is named by a guest.
    pub(super) address_use: Option<AddressUse>,
    pub(super) found: KernelIdentity,
    /// For a function that is named: another one through which its machine is watched.
    pub(super) same: Option<SystemAddress>,
    pub(super) release: String,
    /// The profile's build id.
    pub(super) build_id: Option<String>,
    /// The process whose memory it is, if it is one of QEMU: its user, and the UUID that it claims.
    pub(super) process: Option<String>,
    pub(super) took: Duration,
}

/// Why a system could not be attached to.
#[derive(Debug)]
pub(super) struct NotAttached {
    pub(super) failure: Failure,
    /// The search, if the memory has no kernel.
    pub(super) searched: Option<FailedSearch>,
    /// Whether a kernel may be about to start there: then the failure is not reported yet.
    pub(super) is_early: bool,
    /// It is another function of the machine that is watched through this one.
    pub(super) instead: Option<Box<FunctionInUse>>,
}

/// A search that found no kernel.
#[derive(Debug)]
pub(super) struct FailedSearch {
    pub(super) took: Duration,
    /// What was known of the memory before.
    pub(super) outside: Option<Outside>,
}

impl From<Failure> for NotAttached {
    fn from(failure: Failure) -> Self {
        Self { failure, searched: None, is_early: false, instead: None }
    }
}

impl From<FunctionInUse> for NotAttached {
    fn from(instead: FunctionInUse) -> Self {
        let message = format!("another function of its machine is used: {}", instead.used);
        Self { instead: Some(Box::new(instead)), ..Failure::new(Exit::Source, message).into() }
    }
}

/// Attaches to a system; a function of this type can replace that in tests.
pub(super) type SearchFn = fn(AttachTask, &AtomicBool) -> Result<Box<AttachedSystem>, NotAttached>;

/// Finds the kernel that runs in a system now; a function of this type can replace that in tests.
pub(super) type FindFn =
    fn(&System, &Configuration, &AtomicBool) -> Result<Option<KernelIdentity>, String>;

/// Opens a system, finds its kernel and allocates all memory for watching it.
pub(super) fn search(
    search: AttachTask,
    is_cancelled: &AtomicBool,
) -> Result<Box<AttachedSystem>, NotAttached> {
    let resolution = match &search.system.address {
        SystemAddress::Guest(name) => {
            let guests = || {
                let mut census = search.census.lock().unwrap_or_else(PoisonError::into_inner);
                census.recent(&search.users, CENSUS_AGE)
            };
            let found = find_guest(name, guests, search.owner.as_ref());
            found.map_err(|failure| named_failure(&search.system, &failure))?
        }
        _ => return search_at(search, is_cancelled),
    };
    let address_use = Some(search.in_use.add(&resolution.address));
    let named = Arc::clone(&search.system);
    let system = System { address: resolution.address.clone(), ..(*named).clone() };
    let attached = search_at(AttachTask { system: Arc::new(system), ..search }, is_cancelled)?;
    resolution.check(&attached.source).map_err(|failure| named_failure(&named, &failure))?;
    Ok(Box::new(AttachedSystem { owner: resolution.owner, address_use, ..*attached }))
}

/// The failure to find a guest, with the name of its system.
fn named_failure(system: &System, failure: &Failure) -> Failure {
    Failure::new(failure.exit, format!("{}: {}", system.name, failure.message))
}

/// The same for a system whose address is that of its memory.
fn search_at(
    search: AttachTask,
    is_cancelled: &AtomicBool,
) -> Result<Box<AttachedSystem>, NotAttached> {
    let begin = Instant::now();
    let outside = Outside::of(&search.system.address, &search.users);
    let (system, messages) = (Arc::clone(&search.system), Arc::clone(&search.messages));
    let (system, messages) = (&*system, &*messages);
    let events = SearchEvents::new(Arc::clone(&search.system), search.notices.clone());
    let AttachTask { is_silent, is_patient, is_failure_reported, .. } = search;
    if let Some(instead) = search.used_instead() {
        return Err(instead.into());
    }
    let mut reporting = AttachReporter {
        system,
        events,
        messages,
        is_silent,
        is_patient,
        may_be_starting: false,
        is_failure_reported,
        has_no_kernel: false,
    };
    let has_stop_request = || is_cancelled.load(Ordering::Relaxed);
    let stop = Stop::when(&has_stop_request);
    let attached = attach(system, &search.configuration, true, &mut reporting, stop);
    let (mut source, profile) = attached.map_err(|failure| {
        let took = begin.elapsed();
        let searched = reporting.has_no_kernel.then_some(FailedSearch { took, outside });
        NotAttached { failure, searched, is_early: reporting.is_early(), instead: None }
    })?;
    let same = search.register(&profile, &mut source)?;
    let promise = check_system(system, &search.promised)?;
    let (watched, has_begun) = search.prepare(&profile, &mut source, promise);
    // The start has reported if this is not allowed.
    let _ = lock_own_memory();
    // A kernel that is still starting does not know its own clock yet, so wait.
    if !has_begun && is_patient {
        let release = &profile.release;
        let message = format!("{}: Linux {release} is still starting", system.name);
        let failure = Failure::new(Exit::NoKernel, message);
        return Err(NotAttached { is_early: true, ..failure.into() });
    }
    let process = match &source {
        AnySource::Guest(memory) => guests::describe(memory.process()).ok(),
        _ => None,
    };
    Ok(Box::new(AttachedSystem {
        watched: Box::new(watched),
        process,
        source,
        address: system.address.clone(),
        owner: None,
        address_use: None,
        found: KernelIdentity::of(&profile),
        same,
        release: profile.release,
        build_id: profile.build_id,
        took: begin.elapsed(),
    }))
}

/// Finds the kernel that runs in a system now; `None` if it has none. An error is why that could
/// not be found out.
pub(super) fn find_again(
    system: &System,
    configuration: &Configuration,
    is_cancelled: &AtomicBool,
) -> Result<Option<KernelIdentity>, String> {
    let (address, settings) = (&system.address, &system.settings);
    let profiles = profile_files(settings).map_err(|problem| problem.to_string())?;
    let options = options(&profiles.files, configuration);
    let service = &configuration.service;
    let mut source = open_with(address, settings, service, true, &mut |_| {})
        .map_err(|failure| failure.message)?;
    let has_stop_request = || is_cancelled.load(Ordering::Relaxed);
    let stop = Stop::when(&has_stop_request);
    let found = find_kernel(&mut source, &options, &mut (), stop);
    // Memory without a kernel, and a machine that ended, are results.
    Ok(found.ok().map(|profile| KernelIdentity::of(&profile)))
}

/// Reports the progress of attaching to a system, in messages and in records.
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
struct AttachReporter<'a> {
    system: &'a System,
    events: SearchEvents,
    messages: &'a Messages,
    is_silent: bool,
    is_patient: bool,
    /// Whether it is the memory of a guest that has just begun.
    may_be_starting: bool,
    is_failure_reported: bool,
    /// Whether the memory has no kernel.
    has_no_kernel: bool,
}

impl AttachReporter<'_> {
    /// Whether a kernel may be about to start in the memory, which has none.
    const fn is_early(&self) -> bool {
        self.has_no_kernel && (self.is_patient || self.may_be_starting)
    }
}

impl Observer for AttachReporter<'_> {
    fn regions(&mut self, regions: &Regions) {
        if !self.is_silent {
            self.events.regions(regions);
        }
    }

    fn opened(&mut self, source: &AnySource) {
        // No kernel will ever start in a dump.
        self.is_patient &= !matches!(source, AnySource::File(file) if file.format().is_still());
        if let AnySource::Guest(memory) = source {
            self.may_be_starting = guests::cpu_time::may_be_starting(memory.process());
        }
        if !self.is_silent {
            log_source(source, self.system, true, self.messages);
        }
    }

    fn no_profile(&mut self, problem: &ProfileProblem) {
        if !self.is_failure_reported {
            self.events.no_profile(problem);
        }
    }

    fn left_out(&mut self, problems: &[ProfileProblem]) {
        let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let reason = (!all.is_empty()).then(|| all.join("; "));
        self.events.problem(Topic::Profiles, reason);
    }

    fn event(&mut self, event: &Event<'_>) {
        // A kernel that is still starting may look like a damaged one.
        let is_silent = if matches!(event, Event::CandidateRefused(_)) {
            self.is_patient || self.may_be_starting || self.is_failure_reported
        } else {
            self.is_silent
        };
        if !is_silent {
            log_event(event, self.system, self.messages);
            self.events.discovery(event);
        }
    }

    fn not_attached(&mut self, source: &AnySource, error: &AttachError) {
        let AttachError::NoKernel(error) = error else { return };
        self.has_no_kernel = true;
        if matches!(self.system.address, SystemAddress::Doca { .. }) {
            // A device that fails is not a machine that is about to start.
            source.losses(&mut |_| self.is_patient = false);
        }
        if !self.is_failure_reported && !self.is_early() {
            warn_losses(source, self.system, self.messages);
            self.events.not_found(error);
        }
    }
}

impl AttachTask {
    fn is_function(&self) -> bool {
        matches!(self.system.address, SystemAddress::Doca { .. })
    }

    /// The function that gives the same memory and is used, before anything is searched here.
    fn used_instead(&self) -> Option<FunctionInUse> {
        if !self.is_found || !self.is_function() || self.machines.is_empty() {
            return None;
        }
        let Some(mut source) = self.open(&self.system) else {
            let used = self.spare_of.clone()?;
            return Some(FunctionInUse { used, is_compared: false });
        };
        self.machines.find(&self.system.address, |known| self.compare(known, &mut source))
    }

    /// Adds the machine of a function to those that are watched, unless it is one of them: then
    /// fails with the function that is used. A function that is named is always watched; returns
    /// another one through which its machine is watched.
    fn register(
        &self,
        profile: &Profile,
        source: &mut AnySource,
    ) -> Result<Option<SystemAddress>, FunctionInUse> {
        if !self.is_function() {
            return Ok(None);
        }
        let Some(known) = DmaMachine::of(&self.system, profile, source) else { return Ok(None) };
        let mut same = None;
        let instead = self.machines.add(known, |other| {
            let instead = self.compare(other, source)?;
            if self.is_found {
                return Some(instead);
            }
            same = Some(instead.used);
            None
        });
        instead.map_or(Ok(same), Err)
    }

    /// Compares the memory with that of a machine. What was equal before, and cannot be read now,
    /// is taken as equal.
    fn compare(&self, known: &DmaMachine, source: &mut AnySource) -> Option<FunctionInUse> {
        let used = &known.system.address;
        let is_compared = match known.compare(source, |system| self.open(system)) {
            MachineMatch::Same => true,
            MachineMatch::Unknown if self.spare_of.as_ref() == Some(used) => false,
            MachineMatch::Other | MachineMatch::Unknown => return None,
        };
        Some(FunctionInUse { used: used.clone(), is_compared })
    }

    fn open(&self, system: &System) -> Option<AnySource> {
        let service = &self.configuration.service;
        open_with(&system.address, &system.settings, service, true, &mut |_| {}).ok()
    }

    /// Makes the state for scanning the system; also returns whether its kernel has started.
    /// The memory of the state is promised until it is allocated.
    fn prepare(
        self,
        profile: &Profile,
        source: &mut AnySource,
        promise: Promise,
    ) -> (WatchedMachine, bool) {
        let system = &self.system;
        let redactor = self.configuration.output.redactor();
        let reads_lines = system.settings.user_memory.command_lines;
        let setup = Setup {
            waits_for_clock: self.is_retry,
            shipped: self.shipped,
            ..setup(system, self.header, self.exceptions, profile)
        };
        let mut watched = room::touch(|| WatchedMachine::new(setup));
        drop(promise);
        watched.set_copied(kind_of_copy(source));
        watched.set_command_lines(reads_lines);
        watched.set_redactor(redactor);
        if let Some(traffic_link) = self.traffic_link {
            // What an earlier kernel had.
            traffic_link.forget();
            watched.set_traffic_link(traffic_link);
        }
        let first = {
            // Another search may wait for memory that does not answer.
            match self.walker.try_lock() {
                Ok(mut walker) => watched.first_process(&mut walker, source),
                Err(_) => watched.first_process(&mut first_walker(&system.settings.limits), source),
            }
        };
        let key = BootKey {
            build_id: profile.build_id.as_deref().map(decode_hex).unwrap_or_default(),
            kernel_offset: profile.kernel_offset,
            direct_map_base: profile.space.direct_map.start,
            init_start_ns: first.map_or(0, |first| first.start_ns),
            system: identity(system, self.is_found, source),
        };
        let address = system.address.to_string();
        let boot_uuid = if first.is_some() {
            self.boot_ids.boot_uuid(&key, &address, &|other| self.in_use.has(other))
        } else {
            // The kernel is still starting, or hides process 1: nothing identifies its boot.
            Uuid::new_v4()
        };
        watched.set_boot_uuid(boot_uuid.into_bytes());
        if let Some(seen) = &self.seen {
            watched.go_on(seen);
        }
        (watched, first.is_some_and(|first| first.runs_a_program))
    }
}

/// What distinguishes a system from others.
fn identity(system: &System, is_found: bool, source: &AnySource) -> String {
    // Another function of the machine may be used after this one.
    if is_found && matches!(system.address, SystemAddress::Doca { .. }) {
        return format!("dma {}", system.name);
    }
    let of_guest = match source {
        AnySource::Guest(memory) => guests::identity(memory.process()).ok(),
        _ => None,
    };
    of_guest.unwrap_or_else(|| system.address.to_string())
}

fn decode_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks_exact(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_use_until_the_last_search_there_ends() {
        let (in_use, address) = (InUse::default(), SystemAddress::Qemu(4711));
        let cancelled = in_use.add(&address);
        let next = in_use.add(&address);
        drop(cancelled);
        assert!(in_use.has("qemu:4711") && !in_use.has("qemu:4712"));
        drop(next);
        assert!(!in_use.has("qemu:4711"));
    }

    #[test]
    fn build_ids_are_bytes() {
        assert_eq!(decode_hex("00ff1"), [0, 0xff]);
    }
}
