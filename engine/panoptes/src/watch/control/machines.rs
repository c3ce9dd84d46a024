//! What becomes of machines while they are watched: guests come and go, clocks stand still, memory is plugged in.

use std::time::Instant;

use panoptes_sinks::activities::Activity;

use super::{Candidate, Control, MEMORY_LOOK};
use crate::attach::{KnownProfiles, find_kernel, open_with};
use crate::config::{System, SystemAddress};
use crate::guests;
use crate::watch::announce::because;
use crate::watch::finder::is_same;
use crate::watch::pulse::{Doubt, Found};
use crate::watch::scanner::Lost;

impl Control {
    /// Takes in guests that have come, and lets go of those that went before they were ever watched.
    pub(super) fn find_guests(&mut self) {
        let Some(finder) = &mut self.finder else { return };
        let now = Instant::now();
        let Some(guests) = finder.look(now, &self.messages) else { return };
        for candidate in &mut self.candidates {
            let waits = candidate.found && candidate.due.is_some();
            if waits && !guests.iter().any(|guest| is_same(&candidate.system, guest)) {
                candidate.let_go();
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

    /// Looks what has become of machines whose clocks stand still.
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
            // What cannot be read shows again when it is scanned.
            let now =
                open_with(&system.address, &system.settings, &configuration.service, &mut |_| {})
                    .ok()
                    .and_then(|mut source| find_kernel(&mut source, &known, &mut ()).ok());
            if now.is_some_and(|profile| Found::of(&profile) != *found) {
                vital.give_up(Doubt::OtherKernel);
            } else if !std::mem::replace(&mut candidate.still, true) {
                self.messages.debug(format_args!(
                    "{}: its clock stands still: it is paused, or gone",
                    system.name
                ));
            }
        }
    }

    /// Looks whether QEMU has plugged memory in or out: such a guest is taken in anew.
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
            // One that has ended is noticed by who scans it.
            let Ok(layout) = guests::plan(*pid, &self.users) else { continue };
            // Twice the same: while memory is plugged in there is more of it than is used yet.
            if layout != candidate.layout.0 && layout == candidate.layout.1 {
                vital.give_up(Doubt::OtherMemory);
            }
            candidate.layout.1 = layout;
        }
    }

    /// Takes back a system that could not be scanned any more.
    pub(super) fn lose(&mut self, lost: &Lost) {
        let candidate = &mut self.candidates[lost.index];
        candidate.scanned = None;
        let system = candidate.system.clone();
        self.messages.warning(format_args!("{}: {}", system.name, lost.reason));
        candidate.due = Some(Instant::now() + candidate.pause);
        candidate.told = false;
        if candidate.found && lost.has_ended {
            candidate.let_go();
        }
        self.announcer.host(&system, Activity::DetailsGatheringFailed, &because(&lost.reason));
    }

    /// Says what scans have come to miss, or miss no more.
    pub(super) fn tell_missed(&self) {
        for candidate in &self.candidates {
            let Some((_, vital)) = &candidate.scanned else { continue };
            vital.tidy();
            let name = &candidate.system.name;
            if let Some(refused) = vital.shell_history_refused.take() {
                self.messages.warning(format_args!(
                    "{name}: not all commands that are typed into shells are reported: {refused} shells or commands \
                     found no room or cannot be read (said once)"
                ));
            }
            if let Some(refused) = vital.permissions_refused.take() {
                self.messages.warning(format_args!(
                    "{name}: changes of permissions may be missed: {refused} times a process changed more of its memory \
                     in one scan than is looked at (said once)"
                ));
            }
            if let Some(scans) = vital.shells_cut_short.take() {
                self.messages.warning(format_args!(
                    "{name}: reverse shells may be missed or told later: {scans} times there was more between shells \
                     and connections than one scan follows (said once)"
                ));
            }
            if let Some(untold) = vital.shells_untold.take() {
                self.messages.warning(format_args!(
                    "{name}: {untold} times a reverse shell was not reported, as too many are there that were \
                     (said once)"
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
