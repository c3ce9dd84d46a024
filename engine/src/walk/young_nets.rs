//! Network namespaces whose interfaces do not wait until all interfaces are read.
//!
//! A namespace is young if the last scan did not have it, or if its first or last device was
//! another one then. Its interfaces are read at once. What makes a namespace adds devices and
//! addresses in steps, a moment later. Nothing that a scan reads shows a new address, so young
//! namespaces are read again 1, 2, 4, … scans after they were first seen: an address shows after at
//! most as many scans as had passed before. Who connects has an address, so they are also read
//! when they have more TCP sockets. Those as old as [`INTERFACES_EVERY_SCANS`] are young no more.
//!
//! Users can make namespaces without end. So a scan reads few entries in all, whatever waits, and
//! few of each namespace. Owners (`owners`) take turns: each has one namespace read before another
//! has two.

use core::cmp::Reverse;
use core::mem;

use super::interfaces::{ENTRY_BATCHES, Extent, INTERFACES_EVERY_SCANS};
use super::snapshot::{Index, InterfaceRow, NetRow};
use super::{ScannedMemory, Walker};

/// Number of entries that a scan reads. Each costs up to four batches.
const ENTRIES_MAX: u32 = 32;
/// Number of entries that a scan reads of one namespace: a container's usual two devices have seven
/// with their addresses. What a larger namespace has beyond is read with all interfaces.
const NET_ENTRIES_MAX: u32 = 16;
const _: () = assert!(NET_ENTRIES_MAX < ENTRIES_MAX, "one namespace leaves room for another");
/// The age at which a namespace is young no more.
const OLD: u8 = INTERFACES_EVERY_SCANS as u8;
const _: () = assert!(OLD as u32 == INTERFACES_EVERY_SCANS && OLD < u8::MAX);

/// Facts of a network namespace that scans remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetAge {
    /// Hash of its address and number, and of its first and last device.
    identity: u64,
    sockets: u32,
    /// Scans since it was first seen, up to [`OLD`].
    age: u8,
    is_read: bool,
    /// Whether it waits to be read.
    is_due: bool,
}

impl NetAge {
    /// Returns the facts of the namespace in the next scan that has it.
    fn after_scan(self, sockets: u32) -> Self {
        let age = (self.age + 1).min(OLD);
        let is_time = age.is_power_of_two() || sockets > self.sockets;
        Self { sockets, age, is_due: self.is_due || age < OLD && is_time, ..self }
    }
}

/// A namespace that waits to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct DueNet {
    pub(super) net: Index<NetRow>,
    /// Number of its owner.
    owner: u32,
    is_read: bool,
    age: u8,
    /// Its place among those of its owner, and the owner's place among all.
    turn: (u32, u32),
}

impl Walker {
    /// Updates the ages of the scan's namespaces, and decides which are to be read.
    pub(super) fn note_nets(&mut self) {
        let Self { snapshot, scratch, visited, net_ages, .. } = self;
        let sockets = &mut scratch.numbers;
        sockets.clear();
        sockets.resize(snapshot.nets.len(), 0);
        let nets = snapshot.connections.iter().filter_map(|row| row.net);
        nets.for_each(|net| sockets[net.position()] += 1);
        mem::swap(net_ages, &mut scratch.net_ages);
        visited.clear();
        for (number, before) in (0..).zip(&scratch.net_ages) {
            visited.insert(before.identity, number);
        }
        // The first scan of a machine reads all, and does not know how old they are.
        let age = if scratch.net_ages.is_empty() { OLD } else { 0 };
        net_ages.clear();
        for (net, &sockets) in snapshot.nets.iter().zip(&*sockets) {
            let devices = [net.first_device.0, net.last_device.0];
            let numbers = [net.address.0, net.inum.into(), devices[0], devices[1]];
            let identity = self.net_key.hash_numbers(numbers);
            let new = NetAge { identity, sockets, age, is_read: false, is_due: age < OLD };
            let before = visited.get(identity).map(|number| scratch.net_ages[number as usize]);
            let mut next = before.map_or(new, |before| before.after_scan(sockets));
            // One without a number could not be read.
            next.is_due &= net.inum != 0;
            net_ages.push(next);
        }
    }

    /// Notes that all interfaces were read.
    pub(super) fn note_all_read(&mut self) {
        for net in &mut self.net_ages {
            (net.is_read, net.is_due) = (true, false);
        }
    }

    /// Reads the interfaces of some of the namespaces that wait for that.
    pub(super) fn read_young_nets(&mut self, memory: &mut ScannedMemory<'_>) {
        self.list_due_nets();
        if self.scratch.due_nets.is_empty() {
            return;
        }
        self.forget_interfaces_of_gone_nets();
        self.visited.clear();
        let left = memory.meter.batches_left() / ENTRY_BATCHES;
        // Each scan reads at least one of them, whatever its budget is.
        let mut left = (left.min(ENTRIES_MAX.into()) as u32).max(NET_ENTRIES_MAX);
        for turn in 0..self.scratch.due_nets.len() {
            if left < NET_ENTRIES_MAX {
                return;
            }
            let index = self.scratch.due_nets[turn].net;
            let net = self.snapshot.nets[index];
            let begin = self.snapshot.interfaces.len();
            let mut left_of_net = NET_ENTRIES_MAX;
            let extent = self.read_devices(memory, &net, usize::MAX, &mut left_of_net);
            if memory.is_stopped() {
                self.snapshot.interfaces.truncate(begin);
                return;
            }
            // A namespace without entries costs some time, too.
            left -= (NET_ENTRIES_MAX - left_of_net).max(1);
            let is_whole = extent == Extent::Whole && left_of_net > 0;
            let is_replaced = self.replace_interfaces(net.inum, begin, is_whole);
            let age = &mut self.net_ages[index.position()];
            (age.is_read, age.is_due) = (true, false);
            if !is_replaced {
                age.age = OLD;
            }
        }
    }

    /// Lists all namespaces in the order in which they are read with all interfaces.
    pub(super) fn list_all_nets(&mut self) {
        for net in &mut self.net_ages {
            (net.is_read, net.is_due) = (false, true);
        }
        self.list_due_nets();
    }

    /// Lists the namespaces that wait to be read in the order in which they are. Of the namespaces
    /// of an owner, those that were never read come first, the oldest before others.
    fn list_due_nets(&mut self) {
        let (snapshot, due) = (&self.snapshot, &mut self.scratch.due_nets);
        due.clear();
        for ((net, row), age) in snapshot.nets.indexed().zip(&self.net_ages) {
            if age.is_due {
                // What no process leads to has one owner.
                let process = snapshot.processes.at(row.process);
                let owner = process.map_or(u32::MAX, |process| process.owner);
                let NetAge { is_read, age, .. } = *age;
                due.push(DueNet { net, owner, is_read, age, turn: (0, 0) });
            }
        }
        due.sort_unstable_by_key(|it| (it.owner, it.is_read, Reverse(it.age), it.net));
        let is_same = |one: &DueNet, next: &DueNet| one.owner == next.owner;
        let owners = due.chunk_by(is_same).count() as u32;
        // Another owner is the first in each scan.
        for (place, of_owner) in (0..owners).zip(due.chunk_by_mut(is_same)) {
            for (rank, it) in (0..).zip(of_owner) {
                it.turn = (rank, place.wrapping_add(self.owner_turn) % owners);
            }
        }
        due.sort_unstable_by_key(|it| it.turn);
    }

    /// Removes the interfaces of namespaces that the scan does not have, if room is scarce. Until
    /// then they are those of connections that have ended with their namespace.
    fn forget_interfaces_of_gone_nets(&mut self) {
        let Self { snapshot, visited, .. } = self;
        if snapshot.interfaces.room() >= ENTRIES_MAX as usize {
            return;
        }
        visited.clear();
        for net in snapshot.nets.iter() {
            visited.insert(net.inum.into(), 0);
        }
        snapshot.interfaces.retain(|row| visited.get(row.network_namespace.into()).is_some());
    }

    /// Replaces a namespace's older interfaces by those from row `begin` on, unless these are but a
    /// part that is smaller than what was known. Returns whether it has.
    fn replace_interfaces(&mut self, inum: u32, begin: usize, is_whole: bool) -> bool {
        let rows = &mut self.snapshot.interfaces;
        let is_its = |row: &InterfaceRow| row.network_namespace == inum;
        let old = rows.iter().take(begin).filter(|row| is_its(row)).count();
        if !is_whole && rows.len() - begin < old {
            rows.truncate(begin);
            return false;
        }
        let mut position = 0;
        rows.retain(|row| {
            position += 1;
            position > begin || !is_its(row)
        });
        true
    }
}
