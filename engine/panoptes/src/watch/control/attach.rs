//! Attaches to the systems that are due, and passes them to scanners.

use std::sync::Arc;
use std::time::Instant;

use panoptes_engine::container_config::ContainerConfig;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::system::{AttachError, Stop};
use panoptes_engine::watch::{Identity, Setup, Watched};
use panoptes_profiles::{Event, Profile};
use panoptes_sinks::activities::Activity;
use panoptes_sinks::record::system_activity::SystemActivityDetails;
use panoptes_sources::{AnySource, FileFormat, Format};

use super::candidate::{Phase, Scanned, Waiting};
use super::{Control, FIRST_KERNEL_WAIT};
use crate::attach::{Observer, attach, log_event, log_source, warn_losses};
use crate::boot_ids::BootKey;
use crate::config::{Mode, System};
use crate::dma::Regions;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::watch::clock_watch::{Found, SystemShared};
use crate::watch::scanner::{Assigned, Command};
use crate::watch::signals::Signals;
use crate::watch::system_events::{SystemEvents, because};

/// Reports the progress of attaching to a system, in messages and in records.
struct Reporting<'a> {
    system: &'a System,
    events: &'a mut SystemEvents,
    messages: &'a Messages,
}

impl Observer for Reporting<'_> {
    fn regions(&mut self, regions: &Regions) {
        self.events.regions(self.system, regions);
    }

    fn opened(&mut self, source: &AnySource) {
        log_source(source, self.system, true, self.messages);
        self.events.search_begins();
    }

    fn not_opened(&mut self, failure: &Failure) {
        self.events.failed(self.system, failure);
    }

    fn event(&mut self, event: &Event<'_>) {
        log_event(event, &self.system.name, self.messages);
        self.events.discovery(self.system, event);
    }

    fn not_attached(&mut self, source: &AnySource, error: &AttachError, failure: &Failure) {
        match error {
            AttachError::NoKernel(error) => {
                warn_losses(source, &self.system.name, self.messages);
                self.events.not_found(self.system, error);
            }
            AttachError::Ended => self.events.failed(self.system, failure),
            AttachError::Stopped => {}
        }
    }
}

impl Control {
    pub(super) fn try_due_systems(&mut self, signals: &Signals) {
        let now = Instant::now();
        for index in 0..self.candidates.len() {
            let waiting = self.candidates[index].waiting();
            if let Some(waiting) = waiting.filter(|waiting| waiting.due <= now) {
                self.try_system(index, waiting, signals);
                if signals.has_stop_request() {
                    return;
                }
            }
        }
    }

    fn try_system(&mut self, index: usize, waiting: Waiting, signals: &Signals) {
        let system = self.candidates[index].system.clone();
        let is_retry = std::mem::replace(&mut self.candidates[index].is_retry, true);
        if !waiting.is_reported {
            let reason = format!("looking for a kernel in {}", system.address);
            let activity = Activity::HostInitializationStarted;
            self.system_events.host(&system, activity, &because(&reason));
        }
        match self.attach_to(&system, waiting, is_retry, signals) {
            Ok((assigned, found)) => self.assign(Assigned { index, ..assigned }, found),
            // The loop handles the request.
            Err(_) if signals.has_stop_request() => {}
            Err(failure) => self.report_failure(index, waiting, failure),
        }
    }

    /// Passes a system to its scanner.
    fn assign(&mut self, assigned: Assigned, found: Found) {
        let candidate = &mut self.candidates[assigned.index];
        let layout = match &assigned.source {
            AnySource::Guest(memory) => memory.planned(),
            _ => &[],
        };
        let scanned = Scanned::new(found, Arc::clone(&assigned.shared), layout);
        candidate.phase = Phase::Scanned(scanned);
        if let AnySource::File(source) = &assigned.source
            && source.format() == Format::Raw
        {
            // After the machine has ended, its memory must not be read as a dump.
            candidate.system.settings.file_format = FileFormat::Raw;
        }
        self.is_attached = true;
        self.scanners.send(assigned.index, Command::Scan(assigned));
    }

    /// Reports why a system could not be attached to, and sets the next attempt.
    fn report_failure(&mut self, index: usize, waiting: Waiting, failure: Failure) {
        let ends_it =
            self.request.mode == Mode::Watch && !self.is_attached && self.finder.is_none();
        if !waiting.is_reported && !ends_it {
            self.messages.error(&failure);
        } else if !waiting.is_reported && failure.exit == Exit::NoKernel {
            // A failure that ends the program is reported when it ends.
            self.messages.info(format_args!(
                "{failure}; waiting up to {} s for a kernel to start",
                FIRST_KERNEL_WAIT.as_secs()
            ));
        }
        self.candidates[index].phase = Phase::Waiting(waiting.next());
        self.first_failure.get_or_insert(failure);
    }

    /// Opens a system, finds its kernel and allocates all memory for watching it.
    fn attach_to(
        &mut self,
        system: &System,
        waiting: Waiting,
        is_retry: bool,
        signals: &Signals,
    ) -> Result<(Assigned, Found), Failure> {
        let begin = Instant::now();
        let (events, messages) = (&mut self.system_events, &*self.messages);
        let mut reporting = Reporting { system, events, messages };
        let observer: &mut dyn Observer =
            if waiting.is_reported { &mut () } else { &mut reporting };
        let has_stop_request = || signals.has_stop_request();
        let stop = Stop::when(&has_stop_request);
        let (mut source, profile) =
            attach(system, &self.request.configuration, messages, observer, stop)?;
        let (watched, has_begun) = self.prepare(system, &profile, &mut source, is_retry);
        // A kernel that is still starting does not know its own clock yet, so wait.
        if !has_begun && waiting.is_patient() {
            let release = &profile.release;
            let message = format!("{}: Linux {release} is still starting", system.name);
            let failure = Failure::new(Exit::NoKernel, message);
            if !waiting.is_reported {
                self.system_events.failed(system, &failure);
            }
            return Err(failure);
        }
        let reason = format!(
            "Linux {} is being watched, found in {:.0} ms",
            profile.release,
            begin.elapsed().as_secs_f64() * 1e3
        );
        let details = SystemActivityDetails {
            profile: profile.build_id.as_deref().map(Into::into),
            ..because(&reason)
        };
        self.system_events.host(system, Activity::HostInitializationSuccessful, &details);
        self.messages.info(format_args!("{}: {reason}", system.name));
        let shared = Arc::new(SystemShared::default());
        let assigned = Assigned { index: 0, watched: Box::new(watched), source, shared };
        Ok((assigned, Found::of(&profile)))
    }

    /// Makes the state for scanning a system; also returns whether its kernel has started.
    fn prepare(
        &self,
        system: &System,
        profile: &Profile,
        source: &mut AnySource,
        is_retry: bool,
    ) -> (Watched, bool) {
        let mut watched = Watched::new(Setup {
            limits: system.settings.limits,
            key: crate::random::hash_key(),
            message_ids: crate::random::key(),
            policy: PolicyConfig::from(&system.settings.events),
            login_servers: system.settings.events.login_servers(),
            containers: Arc::new(ContainerConfig::from(&system.settings.containers)),
            header: self.system_events.header_for(system),
            identity: Identity {
                name: system.name.clone(),
                os_version: os_version(&profile.release),
                boot_uuid: [0; 16],
            },
            report_existing: false,
            waits_for_clock: is_retry,
            profile,
            shipped: self.sboms.of(&system.settings.sbom),
        });
        let first = watched.first_process(source);
        let key = BootKey {
            build_id: profile.build_id.as_deref().map(decode_hex).unwrap_or_default(),
            kernel_offset: profile.kernel_offset,
            direct_map_base: profile.space.direct_map.start,
            init_start_ns: first.map_or(0, |first| first.start_ns),
        };
        watched.set_boot_uuid(self.boot_ids.boot_uuid(&key).into_bytes());
        (watched, first.is_some_and(|first| first.runs_a_program))
    }
}

/// Formats `6.1.0-37-amd64` as records name it: `Linux Kernel 6.1`.
fn os_version(release: &str) -> String {
    let mut numbers = release.splitn(3, ['.', '-', '+']);
    let (major, minor) = (numbers.next().unwrap_or(""), numbers.next().unwrap_or(""));
    format!("Linux Kernel {major}.{minor}")
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
    fn releases_become_versions() {
        assert_eq!(os_version("6.1.0-37-amd64"), "Linux Kernel 6.1");
        assert_eq!(os_version("6.12.107+deb13-amd64"), "Linux Kernel 6.12");
        assert_eq!(os_version(""), "Linux Kernel .");
    }

    #[test]
    fn build_ids_are_bytes() {
        assert_eq!(decode_hex("00ff1"), [0, 0xff]);
    }
}
