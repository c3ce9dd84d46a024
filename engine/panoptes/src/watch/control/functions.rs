//! Follows the functions of DMA devices (`auto_scan`). Several functions may give the memory of one
//! machine. Then one is used, and the others are spare: another one takes over when it is gone.

use std::mem::swap;
use std::time::{Duration, Instant};

use panoptes_records::activities::Activity;

use super::candidate::{Phase, SystemCandidate};
use super::one_machine::{FunctionInUse, Machines};
use super::{ControlContext, Systems};
use crate::config::{System, SystemAddress};
use crate::dma;
use crate::watch::clock_watch::Reattach;
use crate::watch::missing_facts::Topic;
use crate::watch::signals::Waker;
use crate::watch::system_events::because;
use crate::watch::threads::{OtherCores, Urgency, Workers};

/// Time between two lists of functions.
const FUNCTION_LIST_INTERVAL: Duration = Duration::from_secs(3);
/// A list that does not end by then is reported.
const FUNCTION_LIST_LONG: Duration = Duration::from_mins(1);
/// Consecutive lists that lack a function which is gone: while a device is reset, one may.
const MISSED: u32 = 2;
/// Consecutive comparisons for which the memory of a spare function cannot be read. Then it is a
/// system of its own: another machine must not stay unwatched because it cannot be read.
const UNCOMPARED: u32 = 3;
/// How long the task of a function waits for another system's, which may never answer.
const HELD_BACK: Duration = Duration::from_mins(1);
/// How long a spare function waits for a machine that has no kernel: as long as large servers
/// take to start.
const STARTING: Duration = Duration::from_mins(30);
/// How long functions wait for the first search of physical functions before them.
const PHYSICAL_FIRST: Duration = Duration::from_secs(5);

/// The thread that lists the functions of DMA devices. Another library's calls may never return,
/// so it has no other work.
#[derive(Debug)]
pub(super) struct Functions {
    lookout: Workers<dma::DocaFunctionList>,
    next: Instant,
    /// The machines that are watched through functions.
    pub(super) machines: Machines,
    /// Whether functions were listed once, or that takes long.
    pub(super) has_looked: bool,
}

impl Functions {
    pub(super) fn new(cores: OtherCores, waker: Waker, now: Instant) -> Self {
        let lookout = Workers::new("functions", 1, cores, waker);
        Self { lookout, next: now, machines: Machines::default(), has_looked: false }
    }

    /// What looking for functions waits for, if it has not ended for long.
    pub(super) fn next_overdue(&mut self) -> Option<&'static str> {
        let overdue = self.lookout.next_overdue(FUNCTION_LIST_LONG);
        self.has_looked |= overdue.is_some();
        overdue.map(|_| "listing the functions of DMA devices")
    }
}

impl Systems {
    /// Starts to list functions, if that is due.
    pub(super) fn look_for_functions(&mut self, cx: &mut ControlContext) {
        let now = Instant::now();
        // Without the library at the start, scanners may not run it.
        if self.finder.is_none() || !cx.shared.has_dma || now < self.functions.next {
            return;
        }
        if !self.functions.lookout.has_room(Urgency::New) {
            return;
        }
        self.functions.next = now + FUNCTION_LIST_INTERVAL;
        let path = cx.request.configuration.service.doca_library_path.clone();
        let find = cx.work.find_functions;
        let run = move |_: &_| find(path.as_deref());
        if let Err(failure) = self.functions.lookout.start(Urgency::New, run) {
            cx.note_problem(None, Topic::Functions, Some(&failure.message));
        }
    }

    /// Uses the lists that have ended.
    pub(super) fn collect_functions(&mut self, cx: &mut ControlContext) {
        while let Some(ended) = self.functions.lookout.next_ended() {
            self.functions.has_looked = true;
            if let Ok(found) = ended.result {
                // A reload may have ended `auto_scan` meanwhile.
                if self.finder.is_some() {
                    self.take_functions(cx, &found);
                }
            } else {
                let what = "listing functions ended unexpectedly; this is a bug in Panoptes";
                cx.note_problem(None, Topic::Functions, Some(what));
            }
        }
    }

    pub(super) fn take_functions(
        &mut self,
        cx: &mut ControlContext,
        found: &dma::DocaFunctionList,
    ) {
        // Most machines have neither DOCA nor such a device.
        let is_wanted = cx.request.configuration.service.doca_library_path.is_some();
        let is_wanted = is_wanted || !found.functions.is_empty();
        let reason = found.obstacles().filter(|_| is_wanted);
        cx.note_problem(None, Topic::Functions, reason.as_deref());
        self.remove_functions(cx, found);
        let functions = found.functions.iter().filter(|function| function.obstacle.is_none());
        // A machine with several functions has the name of the first one.
        let (physical, others): (Vec<_>, Vec<_>) =
            functions.partition(|function| function.is_physical());
        for function in physical.into_iter().chain(others) {
            self.add_function(cx, function);
        }
    }

    /// Adds a function, unless it is known.
    fn add_function(&mut self, cx: &mut ControlContext, function: &dma::Function) {
        let dma::Function { device, vuid, .. } = function;
        let Some(address) = SystemAddress::doca_from_parts(device, vuid) else { return };
        let mut known = self.candidates.iter().filter(|candidate| !candidate.is_gone());
        if known.any(|candidate| candidate.system.address == address) {
            return;
        }
        let name = self.free_name(&address);
        let settings = cx.request.configuration.default.clone();
        let system = System { name, address, settings };
        let (name, address) = (&system.name, &system.address);
        cx.messages.of(&system).info(format_args!("{name}: found as {address}"));
        let mut candidate = SystemCandidate::new(system, Instant::now(), true);
        candidate.is_physical = function.is_physical();
        self.add(candidate);
    }

    /// A name for a function that no system has. A system keeps its name when another function
    /// takes over.
    fn free_name(&self, address: &SystemAddress) -> String {
        let mut known = self.candidates.iter().filter(|candidate| !candidate.is_gone());
        let mut is_taken = |name: &str| known.any(|candidate| candidate.system.name == name);
        let name = address.default_name();
        if !is_taken(&name) {
            return name;
        }
        let numbered = |number| match number {
            1 => address.to_string(),
            _ => format!("{address} ({number})"),
        };
        let is_free = |name: &String| {
            self.candidates.iter().all(|one| one.is_gone() || one.system.name != *name)
        };
        // Some number is free: there are fewer systems.
        (1..=self.candidates.len() + 2).map(numbered).find(is_free).unwrap_or(name)
    }

    /// Removes the functions that a list lacks.
    fn remove_functions(&mut self, cx: &mut ControlContext, found: &dma::DocaFunctionList) {
        for index in 0..self.candidates.len() {
            let candidate = &mut self.candidates[index];
            if candidate.is_gone() || !candidate.is_found_function() {
                continue;
            }
            if found.may_have(&candidate.system.address) {
                candidate.missed = 0;
                continue;
            }
            candidate.missed += 1;
            if candidate.missed < MISSED {
                continue;
            }
            let is_spare = candidate.spare_of.is_some();
            match &candidate.phase {
                Phase::Waiting(_) => {
                    if is_spare || !self.use_spare(cx, index) {
                        self.drop_function(cx, index);
                    }
                }
                // The worker reports the failure; then the system waits.
                Phase::Attaching(attaching) => self.workers.cancel(attaching.task),
                Phase::Scanned(scanned) => scanned.shared.give_up(Reattach::Function),
                Phase::Gone => {}
            }
        }
    }

    fn drop_function(&mut self, cx: &mut ControlContext, index: usize) {
        self.candidates[index].phase = Phase::Gone;
        let system = self.candidates[index].system.clone();
        let System { name, address, .. } = &system;
        cx.messages.of(&system).info(format_args!("{name}: {address} is gone"));
        self.forget(cx, name);
    }

    /// For a system that cannot be scanned any more: uses another function of its machine, if there
    /// is one, unless it is to be attached to again for another reason.
    pub(super) fn replace_function(&mut self, cx: &mut ControlContext, index: usize) -> bool {
        let candidate = &self.candidates[index];
        let Phase::Scanned(scanned) = &candidate.phase else { return false };
        !candidate.is_leaving
            && scanned.shared.given_up().is_none_or(Reattach::is_end)
            && self.use_spare(cx, index)
    }

    /// Ends scans through a function that `auto_scan` has found, because its machine is also
    /// watched through one that is named. The comparison before its next search makes it a spare
    /// one.
    pub(super) fn yield_to_named(&mut self, found: &SystemAddress) {
        let is_it = |one: &&SystemCandidate| one.is_found && one.uses(found);
        if let Some(SystemCandidate { phase: Phase::Scanned(scanned), .. }) =
            self.candidates.iter().find(is_it)
        {
            scanned.shared.give_up(Reattach::Named);
        }
    }

    /// Watches a system through another function of its machine, if there is one. What was known of
    /// the machine stays.
    pub(super) fn use_spare(&mut self, cx: &mut ControlContext, index: usize) -> bool {
        let used = self.candidates[index].system.address.clone();
        if !self.candidates[index].is_found_function() {
            return false;
        }
        let is_spare =
            |one: &SystemCandidate| !one.is_gone() && one.spare_of.as_ref() == Some(&used);
        // One that is being compared is used after that.
        let is_ready = |one: &SystemCandidate| is_spare(one) && one.missed == 0 && one.is_waiting();
        // The one that was used or compared the longest ago, of those that could be compared.
        let ready = self.candidates.iter().enumerate().filter(|(_, one)| is_ready(one));
        let Some((spare, _)) = ready.min_by_key(|(_, one)| (one.uncompared, one.due())) else {
            return self.candidates.iter().any(is_spare);
        };
        let Ok([one, other]) = self.candidates.get_disjoint_mut([index, spare]) else {
            return false;
        };
        // All that belongs to the function.
        swap(&mut one.system.address, &mut other.system.address);
        swap(&mut one.missed, &mut other.missed);
        swap(&mut one.is_physical, &mut other.is_physical);
        other.uncompared = 0;
        other.wait_as_spare();
        let new = one.system.address.clone();
        for one in self.candidates.iter_mut().filter(|one| one.spare_of.as_ref() == Some(&used)) {
            one.spare_of = Some(new.clone());
        }
        let name = self.free_name(&used);
        self.candidates[spare].system.name = name;
        // Each attempt to attach to a machine that is off may use another function.
        let system = &self.candidates[index].system;
        let messages = cx.messages.of(system);
        messages.debug(format_args!("{}: continues through {new}", system.name));
        true
    }

    /// Keeps a function as a spare one of the machine that is watched through another one.
    pub(super) fn keep_spare(
        &mut self,
        cx: &mut ControlContext,
        index: usize,
        instead: FunctionInUse,
    ) {
        let FunctionInUse { used, is_compared } = instead;
        let system_of = |address: &SystemAddress| {
            let one = self.candidates.iter().find(|one| one.uses(address))?;
            Some(one.system.name.clone())
        };
        let mut of = system_of(&used);
        let mut used = used;
        if of.is_none() {
            // The system was removed meanwhile, or is scanned through another function.
            self.functions.machines.remove(&used);
            if let Some(other) = &self.candidates[index].spare_of {
                of = system_of(other);
                used.clone_from(other);
            }
        }
        let candidate = &mut self.candidates[index];
        candidate.wait_as_spare();
        candidate.uncompared = if is_compared { 0 } else { candidate.uncompared + 1 };
        let Some(of) = of.filter(|_| candidate.uncompared < UNCOMPARED) else {
            candidate.spare_of = None;
            candidate.wait_again();
            return;
        };
        if candidate.spare_of.as_ref() == Some(&used) {
            return;
        }
        let system = candidate.system.clone();
        let name = system.name.clone();
        let reason = format!(
            "{} gives the memory of the system {of}, which is watched through {used}; it is used \
             when that function is gone",
            system.address
        );
        self.candidates[index].spare_of = Some(used);
        cx.messages.of(&system).info(format_args!("{name}: {reason}"));
        let activity = Activity::HostInitializationSuccessful;
        cx.system_events.host(&system, activity, &because(&reason));
        // It is no system of its own, so no metrics say that it is not watched.
        cx.system_events.forget(&name);
        cx.problems.forget(&name);
        cx.figures.forget(&name);
    }

    /// Whether the next task of a system has to wait for another system. It does not wait for long,
    /// since the other system may never answer.
    pub(super) fn is_held_back(&self, index: usize) -> bool {
        let candidate = &self.candidates[index];
        let Some(due) = candidate.due().filter(|_| candidate.is_found_function()) else {
            return false;
        };
        let waits = |most: Duration| due.elapsed() < most;
        let mut others = self.candidates.iter().enumerate().filter(|(_, one)| !one.is_gone());
        let Some(used) = &candidate.spare_of else {
            // Functions that are named come first, and then physical ones.
            return others.any(|(other, one)| {
                let is_function = matches!(one.system.address, SystemAddress::Doca { .. });
                let is_first = one.is_physical && (other < index || !candidate.is_physical);
                let most = if one.is_found { PHYSICAL_FIRST } else { HELD_BACK };
                is_function && one.is_untried() && (!one.is_found || is_first) && waits(most)
            });
        };
        // A spare one is not compared with a machine that is not watched, and leaves the machine's
        // next start to the system.
        others.any(|(_, one)| {
            one.uses(used)
                && match &one.phase {
                    Phase::Waiting(_) => waits(if one.is_found { STARTING } else { HELD_BACK }),
                    Phase::Attaching(_) => waits(HELD_BACK),
                    Phase::Scanned(scanned) => {
                        scanned.shared.given_up().is_some() && waits(HELD_BACK)
                    }
                    Phase::Gone => false,
                }
        })
    }
}
