//! The applications of flows that have one.

use core::mem::take;

use panoptes_decoders::maybe::MaybeU32;
use panoptes_records::flow::application::Application;
use panoptes_tables::room;

/// Room for the application of each flow. Its memory is used when one is known.
#[derive(Debug)]
pub(super) struct Pool {
    /// Which one each flow has.
    of_flows: Box<[MaybeU32]>,
    all: Vec<Application>,
    free: Vec<u32>,
}

impl Pool {
    pub(super) fn new(flows: usize) -> Self {
        Self {
            of_flows: room::copies(MaybeU32::NONE, flows),
            all: room::list(flows),
            free: room::list(flows),
        }
    }

    pub(super) fn get(&self, flow: u32) -> Option<&Application> {
        let number = self.of_flows.get(flow as usize)?.get()?;
        self.all.get(number as usize)
    }

    /// Forgets the application of a flow.
    pub(super) fn clear(&mut self, flow: u32) {
        let number = self.of_flows.get_mut(flow as usize);
        if let Some(number) = number.and_then(|number| take(number).get()) {
            self.free.push(number);
        }
    }

    /// Changes the application of a flow.
    pub(super) fn change<T>(&mut self, flow: u32, change: impl FnOnce(&mut Application) -> T) -> T {
        let number = &mut self.of_flows[flow as usize];
        if let Some(known) = number.get().and_then(|number| self.all.get_mut(number as usize)) {
            return change(known);
        }
        let mut application = Application::Unknown;
        let result = change(&mut application);
        if application != Application::Unknown {
            let place = if let Some(free) = self.free.pop() {
                self.all[free as usize] = application;
                free
            } else {
                // There is one for each flow.
                self.all.push(application);
                self.all.len() as u32 - 1
            };
            *number = MaybeU32::new(Some(place));
        }
        result
    }
}
