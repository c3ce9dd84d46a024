//! Adds, changes and removes outputs while the writer runs.
//!
//! Two outputs never write to one place at the same time. An output whose settings change writes
//! what it has first. Then another one is opened in its place, on a thread of its own, and has
//! the next records. One that has panicked is followed in the same way.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use panoptes_records::activities::Activity;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_sinks::output::Output;
use panoptes_sinks::writer::OutputChange;

use super::{OutputEntry, OutputFate, Outputs};
use crate::exit::Failure;
use crate::message::Messages;
use crate::sandbox::keep_those_of_outputs;
use crate::watch::control::POLL_INTERVAL_AT_END;
use crate::watch::outputs::{ConfiguredOutput, Recipe, WatchedOutput};
use crate::watch::signals::{Signals, StopRequest};
use crate::watch::system_events::{SystemEvents, because};
use crate::watch::threads::Urgency;

/// How long the end of the service may wait for outputs that are being changed.
const CHANGES_END: Duration = Duration::from_secs(3);

/// A change of an output that takes longer delays no other configuration.
const CHANGE_MOST: Duration = Duration::from_secs(40);

/// The outputs of a configuration that was read again, made before anything changes.
#[derive(Debug, Default)]
pub(in crate::watch::control) struct NewOutputs {
    /// All that it wants.
    wanted: Vec<ConfiguredOutput>,
    /// Those of them for which there was no place, opened.
    opened: Vec<(Box<dyn Output>, WatchedOutput)>,
}

impl NewOutputs {
    /// Checks the wanted outputs, and opens those that are new. `present` are the outputs in use.
    pub(in crate::watch::control) fn prepare(
        wanted: Vec<ConfiguredOutput>,
        present: &[ConfiguredOutput],
        messages: &Messages,
    ) -> Result<Self, Failure> {
        let is_same = |output: &&ConfiguredOutput| {
            present.iter().any(|one| one.recipe.is_same(&output.recipe))
        };
        for output in wanted.iter().filter(|output| !is_same(output)) {
            output.recipe.check()?;
        }
        let is_new = |output: &&ConfiguredOutput| {
            !present.iter().any(|one| one.recipe.is_replaced_by(&output.recipe))
        };
        let mut new: Vec<&ConfiguredOutput> = wanted.iter().filter(is_new).collect();
        // Opening a file may remove old ones, so files are last.
        new.sort_by_key(|output| output.recipe.is_file());
        let opened = new.into_iter().map(|output| output.clone().open(messages));
        let opened = opened.collect::<Result<_, _>>()?;
        Ok(Self { wanted, opened })
    }

    /// All that the configuration wants.
    pub(in crate::watch::control) fn wanted(&self) -> &[ConfiguredOutput] {
        &self.wanted
    }
}

impl Outputs {
    /// All outputs that the configuration wants, as they are or are about to be; without the logs
    /// of single systems.
    pub(in crate::watch::control) fn wanted(&self) -> Vec<ConfiguredOutput> {
        let of_all = self.entries.iter().filter(|entry| !entry.output.recipe.is_of_system());
        of_all.map(OutputEntry::wanted).collect()
    }

    /// Whether an output ends or is being opened, unless that takes long. One that can't be opened
    /// is tried again, and another configuration may mend that.
    pub(in crate::watch::control) fn are_changing(&self) -> bool {
        let is_changing = |entry: &OutputEntry| match entry.next {
            _ if entry.since.elapsed() >= CHANGE_MOST => false,
            _ if entry.opening.is_some() => true,
            OutputFate::Stays => false,
            OutputFate::Ends => true,
            OutputFate::Becomes(_) => !entry.reported.has_not_opened,
        };
        self.entries.iter().any(is_changing)
    }

    /// Changes the outputs to those of a configuration that was read again. `logs` has the logs of
    /// systems that change.
    pub(in crate::watch::control) fn apply(
        &mut self,
        new: NewOutputs,
        logs: Vec<ConfiguredOutput>,
    ) {
        let NewOutputs { mut wanted, opened } = new;
        wanted.extend(logs);
        let until = self.waker.next();
        for entry in &mut self.entries {
            let recipe = entry.wanted().recipe;
            let counters = Arc::clone(&entry.output.counters);
            let next = wanted.iter().find(|one| recipe.is_replaced_by(&one.recipe));
            let ends = matches!(entry.next, OutputFate::Ends);
            let change = match next {
                Some(next) if next.recipe.is_same(&recipe) && !ends => continue,
                Some(next) => {
                    entry.since = Instant::now();
                    entry.next = OutputFate::Becomes(Box::new(next.clone()));
                    // The output that is being opened has the old settings.
                    (entry.opening, entry.reported.has_not_opened) = (None, false);
                    entry.reported.replaced_at = None;
                    OutputChange::Release(counters, until, next.recipe.filter())
                }
                // The logs of systems end with them.
                None if recipe.is_of_system() => continue,
                None => {
                    (entry.next, entry.opening, entry.since) =
                        (OutputFate::Ends, None, Instant::now());
                    OutputChange::Remove(counters, until)
                }
            };
            // Without a writer, the program ends.
            let _ = self.changes.send(change);
        }
        for (output, watched) in opened {
            let _ = self.changes.send(OutputChange::Add(output, until));
            self.entries.push(OutputEntry::new(watched));
        }
        self.have_changed = true;
        self.wake();
    }

    /// Removes the logs of all systems.
    pub(in crate::watch::control) fn remove_logs_of_systems(&mut self) {
        let until = self.waker.next();
        for entry in self.entries.iter_mut().filter(|entry| entry.output.recipe.is_of_system()) {
            (entry.next, entry.since) = (OutputFate::Ends, Instant::now());
            let counters = Arc::clone(&entry.output.counters);
            let _ = self.changes.send(OutputChange::Remove(counters, until));
        }
        self.wake();
    }

    /// Opens the outputs that are to follow others, at the end of the service: last records wait
    /// for them. A request to stop ends that.
    pub(in crate::watch::control) fn finish_changes(
        &mut self,
        signals: &Signals,
        messages: &Messages,
        events: &mut SystemEvents,
    ) {
        let begin = Instant::now();
        let follows = |entry: &OutputEntry| {
            matches!(entry.next, OutputFate::Becomes(_)) && !entry.reported.has_not_opened
        };
        while self.entries.iter().any(follows) && begin.elapsed() < CHANGES_END {
            self.replace(messages, events);
            if signals.wait(POLL_INTERVAL_AT_END) == Some(StopRequest::Stop) {
                break;
            }
        }
        self.report_last(messages, events);
    }

    /// Opens outputs in the places of those that have panicked, or were to make room, and reports
    /// panics.
    pub(in crate::watch::control) fn replace(
        &mut self,
        messages: &Messages,
        events: &mut SystemEvents,
    ) {
        while let Ok(panic) = self.panics.try_recv() {
            let reason = format!("the writer panicked, and goes on: {panic}");
            report_panic(None, &reason, messages, events);
        }
        while let Some(ended) = self.opener.next_ended() {
            let panicked = || io::Error::other("it panicked while it was opened");
            let opened = ended.result.unwrap_or_else(|_| Err(panicked()));
            let entry = self.entries.iter_mut().find(|entry| entry.opening == Some(ended.id));
            // Without an entry, its system has gone.
            let Some(entry) = entry else { continue };
            entry.opening = None;
            if let Some(old) = entry.use_opened(opened, &self.changes, messages, events) {
                events.renew_log(&entry.output);
                self.have_changed = true;
                self.replaced.push(old);
            }
        }
        for entry in &mut self.entries {
            let now = Instant::now();
            entry.note_panic(now);
            let Some(recipe) = entry.due(now).filter(|_| self.opener.has_room(Urgency::New)) else {
                continue;
            };
            let (recipe, messages) = (recipe.clone(), messages.clone());
            let open = move |_: &_| {
                keep_those_of_outputs(&messages);
                recipe.open_isolated(&messages)
            };
            match self.opener.start(Urgency::New, open) {
                Ok(task) => (entry.opening, entry.since) = (Some(task), now),
                Err(_) => entry.try_later(now),
            }
        }
        if self.have_changed || self.are_changing() {
            self.wake();
        }
    }
}

impl OutputEntry {
    /// Notes that the output has panicked: another one is opened after a pause.
    fn note_panic(&mut self, now: Instant) {
        if let Some(panic) = self.output.counters.take_panic() {
            self.reported.panic = Some(panic);
            self.try_later(now);
        }
    }

    fn try_later(&mut self, now: Instant) {
        self.reported.replaced_at = Some(now + self.reported.panics.add(now));
    }

    /// The output as the configuration wants it.
    pub(super) fn wanted(&self) -> ConfiguredOutput {
        let WatchedOutput { name, recipe, .. } = &self.output;
        match &self.next {
            OutputFate::Becomes(next) => (**next).clone(),
            OutputFate::Stays | OutputFate::Ends => {
                ConfiguredOutput { name: name.clone(), recipe: recipe.clone() }
            }
        }
    }

    /// The output to open in its place now.
    fn due(&self, now: Instant) -> Option<&Recipe> {
        if self.opening.is_some() || self.reported.replaced_at.is_some_and(|at| at > now) {
            return None;
        }
        match &self.next {
            OutputFate::Ends => None,
            OutputFate::Becomes(next) => self.output.counters.is_released().then_some(&next.recipe),
            OutputFate::Stays => self.reported.replaced_at.map(|_| &self.output.recipe),
        }
    }

    /// Uses an output that was opened in its place, and reports that; returns the old one, whose
    /// counters change until the writer has dropped it.
    fn use_opened(
        &mut self,
        opened: io::Result<Box<dyn Output>>,
        changes: &Sender<OutputChange>,
        messages: &Messages,
        events: &mut SystemEvents,
    ) -> Option<Self> {
        let panic = self.reported.panic.take();
        let what = match &opened {
            Ok(_) => "was opened again".to_owned(),
            Err(error) => format!("can't be opened again ({error})"),
        };
        if let Some(panic) = panic {
            let reason = format!("the output panicked, and {what}: {panic}");
            report_panic(Some(&self.output.name), &reason, messages, events);
        } else if let Err(error) = &opened
            && !std::mem::replace(&mut self.reported.has_not_opened, true)
        {
            let reason = format!("it can't be opened with its new settings: {error}");
            messages.error(format_args!("{}: {reason}", self.output.name));
            let output = Some(self.output.name.as_str().into());
            let details = SystemActivityDetails { output, ..because(&reason) };
            events.service(Activity::DetailsGatheringFailed, &details);
        }
        let Ok(opened) = opened else {
            self.try_later(Instant::now());
            return None;
        };
        let ConfiguredOutput { name, recipe } = self.wanted();
        let mut new =
            Self::new(WatchedOutput { name, recipe, counters: Arc::clone(opened.counters()) });
        new.reported.panics = self.reported.panics;
        let old = std::mem::replace(self, new);
        let _ = changes.send(OutputChange::Replace(Arc::clone(&old.output.counters), opened));
        Some(old)
    }
}

/// Reports a panic of an output; without one, of the writer.
fn report_panic(
    output: Option<&str>,
    reason: &str,
    messages: &Messages,
    events: &mut SystemEvents,
) {
    match output {
        Some(name) => messages.error(format_args!("{name}: {reason}")),
        None => messages.error(reason),
    }
    let details = SystemActivityDetails { output: output.map(Into::into), ..because(reason) };
    events.service(Activity::ServiceRuntimeFailure, &details);
}
