//! Adds, changes and removes systems after the configuration was read again.
//!
//! A system whose limits or sources have changed is attached to again. One that another system
//! replaces (it has the name, or is the same machine) is returned by its scanner first, so no
//! machine is watched twice.

use std::time::{Duration, Instant};

use super::candidate::{Changes, Phase, SystemCandidate};
use super::prepare::PreparedReload;
use super::{ControlContext, Systems};
use crate::config::{System, SystemAddress, SystemSettings};
use crate::guests::{self, Guest};
use crate::request::WatchRequest;
use crate::watch::clock_watch::{NewSettings, Reattach};
use crate::watch::finder::{Finder, is_same};

/// What becomes of a system that is known.
enum SystemFate<'a> {
    /// It continues with these settings.
    Stays(&'a SystemSettings),
    Goes,
}

impl Systems {
    /// Changes the systems to those of a configuration that was read again. `is_policy_new`: what
    /// is silenced, or replaced in arguments, has changed for all of them.
    pub(super) fn change_systems(
        &mut self,
        cx: &mut ControlContext,
        new: &PreparedReload,
        is_policy_new: bool,
    ) {
        let now = Instant::now();
        let PreparedReload { request, allowed, .. } = new;
        let users = &cx.request.configuration.service.guest_users;
        let has_other_users = *users != request.configuration.service.guest_users;
        let mut removed = Vec::new();
        self.finder = match self.finder.take() {
            _ if !request.auto_scan => None,
            Some(finder) => Some(finder),
            None => Some(Finder::new(now)),
        };
        for index in 0..self.candidates.len() {
            let candidate = &self.candidates[index];
            if candidate.is_gone() || candidate.is_leaving {
                continue;
            }
            match self.fate(candidate, &new.request) {
                SystemFate::Goes => removed.extend(self.remove(cx, index)),
                SystemFate::Stays(settings) => {
                    let settings = settings.clone();
                    self.change_settings(index, settings, is_policy_new);
                    let address = &self.candidates[index].system.address;
                    let is_forbidden =
                        matches!(address, SystemAddress::Qemu(pid) if !allowed.contains(pid));
                    if has_other_users && is_forbidden {
                        self.attach_again(index);
                    }
                }
            }
        }
        for system in &request.systems {
            let is_known = |candidate: &SystemCandidate| {
                let is_it = candidate.system.name == system.name && !candidate.is_leaving;
                is_it && !candidate.is_gone()
            };
            if !self.candidates.iter().any(is_known) {
                self.add(SystemCandidate::new(system.clone(), now, false));
            }
        }
        for name in removed {
            self.forget(cx, &name);
        }
    }

    /// What becomes of a system.
    fn fate<'a>(&self, candidate: &SystemCandidate, request: &'a WatchRequest) -> SystemFate<'a> {
        let known = &candidate.system;
        if candidate.is_found {
            // A machine may have several functions, of which one is scanned.
            let is_spare_of_it = |address: &SystemAddress| {
                let is_it = |one: &SystemCandidate| one.spare_of.as_ref() == Some(&known.address);
                self.candidates.iter().any(|one| is_it(one) && one.system.address == *address)
            };
            let takes_its_place = |named: &System| {
                named.name == known.name
                    || named.address == known.address
                    || is_spare_of_it(&named.address)
                    || are_same_guest(known, named, &self.guests)
            };
            let is_left_out = self.guests.iter().any(|guest| {
                is_same(known, guest) && !request.configuration.auto_scan_guests.takes(guest)
            });
            let is_replaced = request.systems.iter().any(takes_its_place);
            if !request.auto_scan || is_left_out || is_replaced {
                return SystemFate::Goes;
            }
            return SystemFate::Stays(&request.configuration.default);
        }
        let named = request.systems.iter().find(|named| named.name == known.name);
        match named.filter(|named| named.address.is_written_as(&candidate.configured())) {
            Some(named) => SystemFate::Stays(&named.settings),
            None => SystemFate::Goes,
        }
    }

    /// Adds a system, in the place of one that is gone if there is one.
    pub(super) fn add(&mut self, candidate: SystemCandidate) {
        match self.candidates.iter_mut().find(|candidate| candidate.is_gone()) {
            Some(place) => *place = candidate,
            None => self.candidates.push(candidate),
        }
    }

    /// Ends watching a system; returns its name if it is gone at once.
    pub(super) fn remove(&mut self, cx: &mut ControlContext, index: usize) -> Option<String> {
        let candidate = &mut self.candidates[index];
        match &candidate.phase {
            Phase::Scanned(scanned) => {
                candidate.is_leaving = true;
                scanned.shared.give_up(Reattach::Removed);
                return None;
            }
            Phase::Attaching(attaching) => {
                self.workers.cancel(attaching.task);
                candidate.address_use = None;
            }
            Phase::Waiting(_) | Phase::Gone => {}
        }
        candidate.phase = Phase::Gone;
        let name = candidate.system.name.clone();
        let reason = Reattach::Removed.reason();
        cx.messages.of(&candidate.system).info(format_args!("{name}: {reason}"));
        Some(name)
    }

    /// Uses other settings for a system. What needs other memory or another source has it attached
    /// to again.
    pub(super) fn change_settings(
        &mut self,
        index: usize,
        settings: SystemSettings,
        is_policy_new: bool,
    ) {
        let candidate = &mut self.candidates[index];
        let before = std::mem::replace(&mut candidate.system.settings, settings);
        let after = &mut candidate.system.settings;
        // Those that apply until SBOMs are read.
        after.sbom.clone_from(&before.sbom);
        let mut changes = Changes::between(&before, after, false);
        changes.policy |= is_policy_new;
        let needs_attaching = needs_attaching(&before, after);
        candidate.is_raw &= before.file_format == after.file_format;
        candidate.note_changes(changes);
        if needs_attaching {
            self.attach_again(index);
        }
    }

    /// Attaches to the systems of these names again.
    pub(super) fn attach_again_to(&mut self, names: &[String]) {
        for index in 0..self.candidates.len() {
            if names.contains(&self.candidates[index].system.name) {
                self.attach_again(index);
            }
        }
    }

    /// Attaches to a system again.
    fn attach_again(&mut self, index: usize) {
        let candidate = &mut self.candidates[index];
        match &mut candidate.phase {
            Phase::Scanned(scanned) => scanned.shared.give_up(Reattach::Settings),
            // Its search began with the old settings.
            Phase::Attaching(attaching) => {
                self.workers.cancel(attaching.task);
                candidate.address_use = None;
                if candidate.spare_of.is_some() {
                    candidate.wait_as_spare();
                } else {
                    candidate.wait_for(Duration::ZERO);
                }
            }
            Phase::Waiting(_) | Phase::Gone => {}
        }
    }

    /// Whether a system that is about to end has the name, or is the machine, of this one.
    pub(super) fn waits_for_another(&self, index: usize) -> bool {
        let system = &self.candidates[index].system;
        let is_it = |other: &System| {
            other.name == system.name
                || other.address == system.address
                || are_same_guest(other, system, &self.guests)
        };
        let others = self.candidates.iter().enumerate().filter(|(other, _)| *other != index);
        let mut leaving = others.filter(|(_, other)| other.is_leaving && !other.is_gone());
        leaving.any(|(_, other)| is_it(&other.system))
    }

    /// Has scanners pass on which outputs take the records of each system, as it is now.
    pub(super) fn renew_subjects(&mut self, cx: &mut ControlContext) {
        for candidate in &self.candidates {
            let Phase::Scanned(scanned) = &candidate.phase else { continue };
            let subject = Some(cx.system_events.subject_of(&candidate.system));
            scanned.shared.set_settings(NewSettings { subject, ..NewSettings::default() });
        }
    }
}

/// Whether two systems are the same guest of this machine.
fn are_same_guest(left: &System, right: &System, guests: &[Guest]) -> bool {
    let is_it = |system: &System, guest: &Guest| match &system.address {
        SystemAddress::Guest(name) => {
            guests::resolve(name, guests, None).is_ok_and(|found| found.pid == guest.pid)
        }
        _ => is_same(system, guest),
    };
    guests.iter().any(|guest| is_it(left, guest) && is_it(right, guest))
}

/// Whether a change of settings needs other memory or another source. What was read of processes'
/// own memory is forgotten by that.
fn needs_attaching(before: &SystemSettings, after: &SystemSettings) -> bool {
    let source = |settings: &SystemSettings| {
        let SystemSettings { memory_regions_path, file_format, os_symbol_path, .. } = settings;
        let SystemSettings { os_type, sdk_log_level, limits, user_memory, .. } = settings;
        let paths = (memory_regions_path.clone(), os_symbol_path.clone());
        (paths, *file_format, *os_type, *sdk_log_level, *limits, *user_memory)
    };
    source(before) != source(after)
}
