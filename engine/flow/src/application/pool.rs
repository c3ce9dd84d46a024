//! The applications of flows that have one.

use panoptes_records::flow::application::Application;
use panoptes_tables::room;

/// No application.
const NO_APPLICATION: u32 = u32::MAX;

/// Room for the application of each flow. Its memory is used when one is known.
#[derive(Debug)]
pub(super) struct Pool {
    /// Which one each flow has.
    of_flows: Box<[u32]>,
    all: Vec<Application>,
    free: Vec<u32>,
}

impl Pool {
    pub(super) fn new(flows: usize) -> Self {
        Self {
            of_flows: room::copies(NO_APPLICATION, flows),
            all: room::list(flows),
            free: room::list(flows),
        }
    }

    pub(super) fn get(&self, flow: u32) -> Option<&Application> {
        let number = *self.of_flows.get(flow as usize)?;
        self.all.get(number as usize)
    }

    /// Forgets the application of a flow.
    pub(super) fn clear(&mut self, flow: u32) {
        if let Some(number) =
            self.of_flows.get_mut(flow as usize).filter(|one| **one != NO_APPLICATION)
        {
            self.free.push(*number);
            *number = NO_APPLICATION;
        }
    }

    /// Changes the application of a flow.
    pub(super) fn change<T>(&mut self, flow: u32, change: impl FnOnce(&mut Application) -> T) -> T {
        let number = &mut self.of_flows[flow as usize];
        if let Some(known) = self.all.get_mut(*number as usize) {
            return change(known);
        }
        let mut application = Application::Unknown;
        let result = change(&mut application);
        if application != Application::Unknown {
            if let Some(free) = self.free.pop() {
                self.all[free as usize] = application;
                *number = free;
            } else {
                // There is one for each flow.
                *number = self.all.len() as u32;
                self.all.push(application);
            }
        }
        result
    }
}
