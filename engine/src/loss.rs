//! Counts of what was not seen or not checked, with a process to blame.
//!
//! Code that skips something counts it in a [`Loss`]; `policy::gaps` reports it.

/// A number of things that were not seen or not checked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Loss {
    /// Since the machine is watched.
    pub count: u64,
    /// The last process that caused some of them, if one did.
    pub process_id: Option<u32>,
}

impl Loss {
    /// Counts `count` more things, which `process_id` caused, if a process did.
    pub fn add(&mut self, count: u64, process_id: Option<u32>) {
        if count > 0 {
            self.count = self.count.saturating_add(count);
            self.process_id = process_id;
        }
    }
}

impl From<u64> for Loss {
    fn from(count: u64) -> Self {
        Self { count, process_id: None }
    }
}
