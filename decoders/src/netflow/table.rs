//! A table of fixed capacity, in which no exporter can take the room of another one.

use super::flow::ExportFormat;

/// An entry that was not used for this time gives its room to another exporter: the time after
/// which argus 3.0.8 forgets a template.
const EXPIRY_NS: i64 = 1800 * 1_000_000_000;

/// What an entry belongs to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ExporterKey {
    /// The address that sends.
    pub(super) exporter: u128,
    /// The source id, or the observation domain.
    pub(super) domain: u32,
    /// Ids of different formats are different.
    pub(super) format: ExportFormat,
    /// The id of a template; 0 if the entry is of all of them.
    pub(super) template: u16,
}

/// `N` entries, of which an exporter has at most `OWN`.
#[derive(Clone, Debug)]
pub(super) struct ExporterTable<V, const N: usize, const OWN: usize> {
    /// The key, and when the entry was last used in nanoseconds since 1970. `None`: it is free.
    keys: [Option<(ExporterKey, i64)>; N],
    values: [V; N],
}

impl<V: Copy, const N: usize, const OWN: usize> ExporterTable<V, N, OWN> {
    pub(super) const fn new(empty: V) -> Self {
        Self { keys: [None; N], values: [empty; N] }
    }

    /// The entry of a key, which is used now.
    pub(super) fn find(&mut self, key: &ExporterKey, now_ns: i64) -> Option<&mut V> {
        let at = self.place(key)?;
        self.keys[at] = Some((*key, now_ns));
        Some(&mut self.values[at])
    }

    /// Puts a value in. An exporter that has all its entries loses the one that is unused for
    /// longest. `None` if there is no room.
    pub(super) fn put(&mut self, key: &ExporterKey, now_ns: i64, value: V) -> Option<&mut V> {
        let at = self.place(key).or_else(|| self.room(key.exporter, now_ns))?;
        self.keys[at] = Some((*key, now_ns));
        self.values[at] = value;
        Some(&mut self.values[at])
    }

    /// Removes the entries that fit.
    pub(super) fn remove(&mut self, fits: impl Fn(&ExporterKey) -> bool) {
        for entry in &mut self.keys {
            if entry.is_some_and(|(key, _)| fits(&key)) {
                *entry = None;
            }
        }
    }

    fn place(&self, key: &ExporterKey) -> Option<usize> {
        self.keys.iter().position(|entry| entry.is_some_and(|(other, _)| other == *key))
    }

    /// Where a new entry of an exporter goes.
    fn room(&self, exporter: u128, now_ns: i64) -> Option<usize> {
        let is_own = |entry: &Option<(ExporterKey, i64)>| {
            entry.is_some_and(|(key, _)| key.exporter == exporter)
        };
        if self.keys.iter().filter(|entry| is_own(entry)).count() >= OWN {
            return self.oldest(is_own);
        }
        let free = self.keys.iter().position(Option::is_none);
        free.or_else(|| {
            let expired = now_ns.saturating_sub(EXPIRY_NS);
            self.oldest(|entry| entry.is_some_and(|(_, used_ns)| used_ns < expired))
        })
    }

    /// The entry that is unused for longest among those that fit.
    fn oldest(&self, fits: impl Fn(&Option<(ExporterKey, i64)>) -> bool) -> Option<usize> {
        let fitting = self.keys.iter().enumerate().filter(|(_, entry)| fits(entry));
        let used = fitting.filter_map(|(at, entry)| entry.map(|(_, used_ns)| (used_ns, at)));
        used.min().map(|(_, at)| at)
    }
}
