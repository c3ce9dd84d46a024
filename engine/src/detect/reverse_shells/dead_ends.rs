//! Objects from which the present scan's search has reached no connection.
//!
//! Many interpreters may read one pipe. The search from it is the same for each of them, unless it
//! led back to the interpreter itself.

use panoptes_tables::{AddressMap, HashKey};

use super::graph::{Object, Way};
use crate::limits::Limits;

/// The objects from which nothing is reached, by the way that was followed.
#[derive(Debug)]
pub(super) struct DeadEnds(AddressMap);

impl DeadEnds {
    /// Allocates for `limits`. Further objects are searched from each time.
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        let objects = (limits.processes as usize).saturating_mul(2).min(1 << 16);
        Self(AddressMap::new(objects, key.derive("shells: dead ends")))
    }

    /// Begins a scan: positions of objects are those of one scan.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether an object is a dead end only as far as a search goes; `None` if it is none.
    pub(super) fn get(&self, object: Object, way: Way) -> Option<bool> {
        self.0.get(number(object, way)).map(|is_cut| is_cut != 0)
    }

    pub(super) fn add(&mut self, object: Object, way: Way, is_cut: bool) {
        self.0.insert(number(object, way), is_cut.into());
    }
}

/// A number of its own, not 0, for each object and way.
fn number(object: Object, way: Way) -> u64 {
    let (kind, position) = match object {
        Object::Pipe(at) => (1, at.position()),
        Object::Unix(at) => (2, at.position()),
        Object::Terminal(at) => (3, at.position()),
        Object::Connection(at) => (4, at.position()),
        Object::Datagram(at) => (5, at.position()),
    };
    (position as u64) << 4 | kind << 1 | u64::from(way == Way::On)
}
