//! Records that wait on the disk for receivers that the configuration does not have.
//!
//! Threads look for them: a disk may not answer.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use panoptes_records::activities::Activity;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_sinks::output::backlog::entries_on_disk;

use super::{OutputEntry, Outputs};
use crate::message::Messages;
use crate::sandbox::keep_those_of_outputs;
use crate::watch::outputs::Recipe;
use crate::watch::system_events::{SystemEvents, because};
use crate::watch::telemetry;
use crate::watch::threads::{Urgency, Workers};

/// The folders that have records, and their number.
pub(in crate::watch::control) type LeftoverBacklogs = Vec<(PathBuf, usize)>;

/// Where to look.
#[derive(Clone, Debug)]
pub(in crate::watch::control) enum LeftoverPlace {
    /// In the folders of all receivers, below the service's folder.
    All(PathBuf),
    /// In that of one receiver.
    Folder(PathBuf),
}

impl LeftoverPlace {
    fn look(self) -> LeftoverBacklogs {
        let folders = match self {
            Self::All(state_dir) => telemetry::folders(&state_dir),
            Self::Folder(folder) => vec![folder],
        };
        let records = |folder: &Path| entries_on_disk(folder).ok().filter(|records| *records > 0);
        let found = |folder: PathBuf| records(&folder).map(|records| (folder, records));
        folders.into_iter().filter_map(found).collect()
    }
}

/// Looks for records.
#[derive(Debug)]
pub(super) struct LeftoverSearch {
    threads: Workers<LeftoverBacklogs>,
    places: VecDeque<LeftoverPlace>,
}

impl LeftoverSearch {
    pub(super) const fn new(threads: Workers<LeftoverBacklogs>) -> Self {
        Self { threads, places: VecDeque::new() }
    }
}

impl Outputs {
    /// Has the records reported that wait in a place, unless an output sends them.
    pub(in crate::watch::control) fn look_for_left(&mut self, place: LeftoverPlace) {
        self.left.places.push_back(place);
    }

    /// Reports what was found, and looks in the next place.
    pub(super) fn report_left(&mut self, messages: &Messages, events: &mut SystemEvents) {
        while let Some(ended) = self.left.threads.next_ended() {
            for (folder, records) in ended.result.unwrap_or_default() {
                if !self.sends(&folder) {
                    report(&folder, records, messages, events);
                }
            }
        }
        while self.left.threads.has_room(Urgency::New)
            && let Some(place) = self.left.places.pop_front()
        {
            let its = messages.clone();
            let look = move |_: &_| {
                keep_those_of_outputs(&its);
                place.look()
            };
            // Without a thread, nothing is reported.
            let _ = self.left.threads.start(Urgency::New, look);
        }
    }

    /// Whether an output sends what waits in this folder.
    fn sends(&self, folder: &Path) -> bool {
        let is_its = |recipe: &Recipe| recipe.backlog_folder().is_some_and(|its| its == folder);
        let sends =
            |entry: &OutputEntry| is_its(&entry.output.recipe) || is_its(&entry.wanted().recipe);
        self.entries.iter().any(sends)
    }
}

fn report(folder: &Path, records: usize, messages: &Messages, events: &mut SystemEvents) {
    let name = folder.display().to_string();
    let reason = format!(
        "{records} records wait here for a receiver that the configuration does not have; \
         configure it again, or remove the folder"
    );
    messages.warning(format_args!("{name}: {reason}"));
    let output = Some(name.as_str().into());
    let details = SystemActivityDetails { output, ..because(&reason) };
    events.service(Activity::DetailsGatheringFailed, &details);
}
