//! Makers of the user namespaces of processes.
//!
//! Every user can make a user namespace, be root in it and have the ids of many users
//! (`newuidmap`). What its processes take still counts as its maker's: of nested namespaces, the
//! maker of the outermost one. Namespaces made by root, as container runtimes do, have no such
//! maker here.

use core::num::NonZeroU32;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::cred::LEVEL_MAX;
use panoptes_decoders::layout::View;

use panoptes_tables::AddressedRows;

use super::losses::WalkedStructure;
use super::snapshot::{UserNamespaceRow, row_at};
use super::tables::Snapshot;
use super::{ScannedMemory, Walker, fetch};

impl Walker {
    /// Reads the user namespaces of all processes, as listed by process, and the namespaces around
    /// them. Sets who made the outermost ones.
    pub(super) fn read_user_namespaces(&mut self, memory: &mut ScannedMemory<'_>) {
        let first = self.first_user_namespace();
        self.snapshot.user_namespaces.clear();
        if first.is_null() {
            return;
        }
        let mut last = first;
        for &address in &self.scratch.user_namespaces {
            if address != first && address != last {
                row_at(&mut self.snapshot.user_namespaces, address);
            }
            last = address;
        }
        if self.snapshot.user_namespaces.is_empty() {
            return;
        }
        let mut read = 0;
        for _ in 0..LEVEL_MAX {
            let known = self.snapshot.user_namespaces.len();
            if read == known {
                break;
            }
            self.read_user_namespaces_from(memory, read, first);
            read = known;
        }
        let Snapshot { processes, user_namespaces, losses, .. } = &mut self.snapshot;
        let processes = processes.as_mut_slice().iter_mut();
        for (process, &address) in processes.zip(&self.scratch.user_namespaces) {
            if address != first {
                let maker = maker_of(user_namespaces, address, first).unwrap_or_else(|stop| {
                    losses.stop(WalkedStructure::UserNamespaceNesting, stop);
                    None
                });
                // Without a known maker, nobody gets more than the process's own user has.
                let own = || process.ids.map_or(u32::MAX, |ids| ids.uid);
                process.namespace_maker = NonZeroU32::new(maker.unwrap_or_else(own));
            }
        }
    }

    /// The user namespace of process 1.
    fn first_user_namespace(&self) -> KernelVa {
        let index = self.snapshot.index_by_pid(1);
        let listed = index.and_then(|index| self.scratch.user_namespaces.get(index.position()));
        listed.copied().unwrap_or_default()
    }

    /// Reads the namespaces in rows from position `start` on, and gives their parents rows.
    fn read_user_namespaces_from(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        start: usize,
        first: KernelVa,
    ) {
        let layout = &memory.kernel.layouts.user_namespace;
        let (rows, losses) = (&mut self.snapshot.user_namespaces, &mut self.snapshot.losses);
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.extend(rows.iter().skip(start).map(|row| row.address));
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let Some(view) = bytes.map(View::new) else {
                losses.miss(WalkedStructure::Namespace, addresses[index]);
                return;
            };
            let parent = view.pointer(layout.parent);
            let row = &mut rows.as_mut_slice()[start + index];
            (row.parent, row.owner) = (parent, view.unsigned(layout.owner) as u32);
            if parent != first {
                row_at(rows, parent);
            }
        });
    }
}

/// The user who made the outermost namespace around the one at `address`; `None` if one of them has
/// no row, or was not read. An error is the reason that the outermost one was not reached.
fn maker_of(
    rows: &AddressedRows<UserNamespaceRow>,
    address: KernelVa,
    first: KernelVa,
) -> Result<Option<u32>, EarlyStop> {
    let mut around = address;
    for _ in 0..LEVEL_MAX {
        let Some(row) = rows.at(rows.find(around.0)) else { return Ok(None) };
        if row.parent == first {
            return Ok(Some(row.owner));
        }
        around = row.parent;
    }
    Err(EarlyStop::TooLong { limit: LEVEL_MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::memory::{Sparse, add_process, kernel, small, va, walker};

    /// Puts a user namespace into memory.
    fn namespace(memory: &mut Sparse, parent: u64, owner: u32) -> u64 {
        let namespace = memory.structure();
        memory.set(namespace, "user_namespace", "parent", parent);
        memory.set(namespace, "user_namespace", "owner.val", owner.into());
        namespace
    }

    /// The makers that are found for processes in these namespaces, the first of which is that of
    /// process 1.
    fn makers(memory: &mut Sparse, namespaces: &[u64]) -> Vec<u32> {
        let walker = read(memory, namespaces);
        let makers = walker.snapshot.processes.iter().map(|process| process.namespace_maker);
        makers.map(|maker| maker.map_or(0, NonZeroU32::get)).collect()
    }

    /// A scan of processes in these namespaces.
    fn read(memory: &mut Sparse, namespaces: &[u64]) -> Walker {
        let mut walker = walker(&small());
        for &namespace in namespaces {
            let process = add_process(&mut walker, memory, 100_000);
            let cred = memory.structure();
            memory.set(cred, "cred", "uid", 100_000);
            memory.set(cred, "cred", "user_ns", namespace);
            let leader = walker.snapshot.processes[process].leader;
            walker.snapshot.threads[leader].task.real_cred = va(cred);
        }
        walker.scratch.shares.begin(namespaces.len());
        memory.walk(&mut walker, &kernel(), Walker::read_processes);
        walker
    }

    #[test]
    fn a_nested_namespace_counts_for_who_made_the_outermost_one() {
        let mut memory = Sparse::default();
        let first = namespace(&mut memory, 0, 0);
        let own = namespace(&mut memory, first, 1000);
        let nested = namespace(&mut memory, own, 100_000);
        let deepest = (3..LEVEL_MAX).fold(nested, |above, _| namespace(&mut memory, above, 7));
        let of_root = namespace(&mut memory, first, 0);
        let below_root = namespace(&mut memory, of_root, 100_000);
        let all = [first, own, nested, deepest, first, of_root, below_root];
        assert_eq!(makers(&mut memory, &all), [0, 1000, 1000, 1000, 0, 0, 0]);
    }

    #[test]
    fn forged_namespaces_end_the_search() {
        let mut memory = Sparse::default();
        let first = namespace(&mut memory, 0, 0);
        let circle = namespace(&mut memory, 0, 5);
        memory.set(circle, "user_namespace", "parent", circle);
        let orphan = namespace(&mut memory, 0, 6);
        let missing = memory.structure();
        memory.missing.push(missing..missing + 8);
        let all = [first, circle, orphan, missing, 0];
        assert_eq!(makers(&mut memory, &all)[0], 0);
        assert_eq!(makers(&mut memory, &all)[1..], [100_000; 4], "their own user");
        let endless = (0..100).fold(first, |above, _| namespace(&mut memory, above, 9));
        assert_eq!(makers(&mut memory, &[first, endless]), [0, 100_000]);
        let stop = format!("nesting of user namespaces: longer than {LEVEL_MAX}");
        for forged in [circle, endless] {
            let stops = read(&mut memory, &[first, forged]).snapshot.losses.frequent_stops();
            assert!(stops.iter().any(|it| it.count == 1 && it.to_string() == stop), "{stops:?}");
        }
    }
}
