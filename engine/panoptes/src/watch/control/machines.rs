//! Follows machines while they are watched: guests start and end, clocks stand still, memory is
//! plugged in.

use std::time::Instant;

use panoptes_engine::system::{Stop, find_kernel};
use panoptes_sinks::activities::Activity;

use super::candidate::{Candidate, Phase};
use super::{Control, MEMORY_LOOK};
use crate::attach::{open_with, options, profile_files};
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
            let waits = candidate.is_found && candidate.waiting().is_some();
            if waits && !guests.iter().any(|guest| is_same(&candidate.system, guest)) {
                candidate.phase = Phase::Gone;
            }
        }
        for guest in guests {
            let mut known = self.candidates.iter().filter(|candidate| !candidate.is_gone());
            if known.any(|candidate| is_same(&candidate.system, &guest)) {
                continue;
            }
            let address = SystemAddress::Qemu(guest.pid);
            let mut name = guest.name.unwrap_or_else(|| address.default_name());
            let mut known = self.candidates.iter().filter(|candidate| !candidate.is_gone());
            if known.any(|candidate| candidate.system.name == name) {
                name = format!("{name} ({address})");
            }
            self.messages.info(format_args!("{name}: found as {address}"));
            let settings = self.request.configuration.default.clone();
            let candidate = Candidate::new(System { name, address, settings }, now, true);
            match self.candidates.iter_mut().find(|candidate| candidate.is_gone()) {
                Some(place) => *place = candidate,
                None => self.candidates.push(candidate),
            }
        }
    }

    /// Checks whether another kernel runs in machines whose clocks stand still.
    pub(super) fn check_stopped_clocks(&mut self) {
        for Candidate { system, phase, .. } in &mut self.candidates {
            let Phase::Scanned(scanned) = phase else { continue };
            if !scanned.shared.take_standstill() {
                continue;
            }
            let configuration = &self.request.configuration;
            let Ok(files) = profile_files(system, &self.messages) else { continue };
            let options = options(&files, configuration);
            // An error here occurs again when the machine is scanned.
            let now =
                open_with(&system.address, &system.settings, &configuration.service, &mut |_| {})
                    .ok()
                    .and_then(|mut source| {
                        find_kernel(&mut source, &options, &mut (), Stop::NEVER).ok()
                    });
            if now.is_some_and(|profile| Found::of(&profile) != scanned.found) {
                scanned.shared.give_up(Reattach::OtherKernel);
            } else if !std::mem::replace(&mut scanned.is_standstill_logged, true) {
                self.messages.debug(format_args!(
                    "{}: its clock stands still: it is paused, or has ended",
                    system.name
                ));
            }
        }
    }

    /// Checks whether QEMU has plugged memory in or out, and attaches to such a guest again.
    pub(super) fn check_memory_layouts(&mut self) {
        let now = Instant::now();
        if now < self.next_memory {
            return;
        }
        self.next_memory = now + MEMORY_LOOK;
        for Candidate { system, phase, .. } in &mut self.candidates {
            let (Phase::Scanned(scanned), SystemAddress::Qemu(pid)) = (phase, &system.address)
            else {
                continue;
            };
            // If the guest has ended, the scanner detects that.
            let Ok(layout) = guests::plan(*pid, &self.users) else { continue };
            // Wait for two equal layouts: while memory is plugged in, more is mapped than is used.
            if layout != scanned.opened_layout && layout == scanned.last_layout {
                scanned.shared.give_up(Reattach::OtherMemory);
            }
            scanned.last_layout = layout;
        }
    }

    /// Handles a system that can't be scanned any more: reports it, and retries or removes it.
    pub(super) fn lose(&mut self, lost: &Lost) {
        let candidate = &mut self.candidates[lost.index];
        let system = candidate.system.clone();
        self.messages.warning(format_args!("{}: {}", system.name, lost.reason));
        if candidate.is_found && lost.has_ended {
            candidate.phase = Phase::Gone;
        } else {
            candidate.wait_again();
        }
        self.system_events.host(&system, Activity::DetailsGatheringFailed, &because(&lost.reason));
    }

    /// Writes messages about what scans and detectors missed, and when scans are complete again.
    pub(super) fn report_missed(&mut self) {
        for Candidate { system, phase, .. } in &mut self.candidates {
            let Phase::Scanned(scanned) = phase else { continue };
            let name = &system.name;
            scanned.shared.tidy();
            let skipped = scanned.shared.skipped.get();
            let reported = std::mem::replace(&mut scanned.reported, skipped);
            for warning in skipped.warnings_since(reported) {
                self.messages.warning(format_args!("{name}: {warning}"));
            }
            let Some(losses) = scanned.shared.losses.take() else { continue };
            let message = format_args!("{name}: {losses}");
            if losses.is_none() {
                self.messages.info(message);
            } else {
                self.messages.warning(message);
            }
        }
    }
}
