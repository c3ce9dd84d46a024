//! Follows machines while they are watched: guests start and end, clocks stand still, memory is
//! plugged in.

use std::time::Instant;

use panoptes_sinks::activities::Activity;

use super::{Candidate, Control, MEMORY_LOOK};
use crate::attach::{KnownProfiles, find_kernel, open_with};
use crate::config::{System, SystemAddress};
use crate::guests;
use crate::watch::clock_watch::{Found, Reattach};
use crate::watch::finder::is_same;
use crate::watch::scanner::Lost;
use crate::watch::system_events::because;

impl Control {
    /// Adds new guests, and removes those that ended while they waited to be attached.
    pub(super) fn find_guests(&mut self) {
        let Some(finder) = &mut self.finder else { return };
        let now = Instant::now();
        let Some(guests) = finder.look(now, &self.messages) else { return };
        for candidate in &mut self.candidates {
            let waits = candidate.found && candidate.due.is_some();
            if waits && !guests.iter().any(|guest| is_same(&candidate.system, guest)) {
                candidate.remove();
            }
        }
        for guest in guests {
            let mut known = self.candidates.iter().filter(|candidate| !candidate.gone);
            if known.any(|candidate| is_same(&candidate.system, &guest)) {
                continue;
            }
            let address = SystemAddress::Qemu(guest.pid);
            let mut name = guest.name.unwrap_or_else(|| address.default_name());
            let mut known = self.candidates.iter().filter(|candidate| !candidate.gone);
            if known.any(|candidate| candidate.system.name == name) {
                name = format!("{name} ({address})");
            }
            self.messages.info(format_args!("{name}: found as {address}"));
            let settings = self.request.configuration.default.clone();
            let candidate = Candidate::new(System { name, address, settings }, now, true);
            match self.candidates.iter_mut().find(|candidate| candidate.gone) {
                Some(place) => *place = candidate,
                None => self.candidates.push(candidate),
            }
        }
    }

    /// Checks whether another kernel runs in machines whose clocks stand still.
    pub(super) fn look_again(&mut self) {
        for candidate in &mut self.candidates {
            let Some((found, vital)) = &candidate.scanned else { continue };
            if !vital.take_doubt() {
                continue;
            }
            let system = &candidate.system;
            let configuration = &self.request.configuration;
            let Ok(known) = KnownProfiles::of(system, configuration, &self.messages) else {
                continue;
            };
            // An error here occurs again when the machine is scanned.
            let now =
                open_with(&system.address, &system.settings, &configuration.service, &mut |_| {})
                    .ok()
                    .and_then(|mut source| find_kernel(&mut source, &known, &mut ()).ok());
            if now.is_some_and(|profile| Found::of(&profile) != *found) {
                vital.give_up(Reattach::OtherKernel);
            } else if !std::mem::replace(&mut candidate.still, true) {
                self.messages.debug(format_args!(
                    "{}: its clock stands still: it is paused, or has ended",
                    system.name
                ));
            }
        }
    }

    /// Checks whether QEMU has plugged memory in or out, and attaches to such a guest again.
    pub(super) fn look_at_memory(&mut self) {
        let now = Instant::now();
        if now < self.next_memory {
            return;
        }
        self.next_memory = now + MEMORY_LOOK;
        for candidate in &mut self.candidates {
            let (Some((_, vital)), SystemAddress::Qemu(pid)) =
                (&candidate.scanned, &candidate.system.address)
            else {
                continue;
            };
            // If the guest has ended, the scanner detects that.
            let Ok(layout) = guests::plan(*pid, &self.users) else { continue };
            // Wait for two equal layouts: while memory is plugged in, more is mapped than is used.
            if layout != candidate.layout.0 && layout == candidate.layout.1 {
                vital.give_up(Reattach::OtherMemory);
            }
            candidate.layout.1 = layout;
        }
    }

    /// Handles a system that can't be scanned any more: reports it, and retries or removes it.
    pub(super) fn lose(&mut self, lost: &Lost) {
        let candidate = &mut self.candidates[lost.index];
        candidate.scanned = None;
        let system = candidate.system.clone();
        self.messages.warning(format_args!("{}: {}", system.name, lost.reason));
        candidate.due = Some(Instant::now() + candidate.pause);
        candidate.reported = false;
        if candidate.found && lost.has_ended {
            candidate.remove();
        }
        self.system_events.host(&system, Activity::DetailsGatheringFailed, &because(&lost.reason));
    }

    /// Writes messages about lasting losses of scans, and about their end.
    pub(super) fn tell_missed(&self) {
        for candidate in &self.candidates {
            let Some((_, vital)) = &candidate.scanned else { continue };
            vital.tidy();
            let name = &candidate.system.name;
            if let Some(refused) = vital.shell_history_refused.take() {
                self.messages.warning(format_args!(
                    "{name}: not all shell commands are reported: {refused} shells or commands did \
                     not fit or could not be read (reported once)"
                ));
            }
            if let Some(refused) = vital.permissions_refused.take() {
                self.messages.warning(format_args!(
                    "{name}: changes of permissions may be missed: {refused} times a process \
                     changed more of its memory in one scan than is checked (reported once)"
                ));
            }
            if let Some(scans) = vital.shells_cut_short.take() {
                self.messages.warning(format_args!(
                    "{name}: reverse shells may be missed or reported late: {scans} times there \
                     were more links between shells and connections than one scan follows \
                     (reported once)"
                ));
            }
            if let Some(untold) = vital.shells_untold.take() {
                self.messages.warning(format_args!(
                    "{name}: {untold} times a reverse shell was not reported, because the list of \
                     reported ones is full (reported once)"
                ));
            }
            let Some(losses) = vital.losses.take() else { continue };
            let message = format_args!("{name}: {losses}");
            if losses.is_none() {
                self.messages.info(message);
            } else {
                self.messages.warning(message);
            }
        }
    }
}
