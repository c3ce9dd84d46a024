//! Network interfaces and their addresses. Which namespaces are read in which scan is in
//! [`super::young_nets`].

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::net_device::MAC_BYTES;

use super::losses::WalkedStructure;
use super::memory::visit;
use super::snapshot::{InterfaceRow, NetRow};
use super::{ScannedMemory, Walker};

/// Number of scans for which the list of network interfaces is valid.
pub(super) const INTERFACES_EVERY_SCANS: u32 = 128;
/// Maximum number of entries of all lists together. Each costs a round, and users can make
/// interfaces and addresses in namespaces of their own.
const ENTRIES_MAX: u32 = 4096;
/// Number of entries that are read whatever the scan's budget is.
const ENTRIES_MIN: u32 = 64;
/// Number of interfaces that a namespace gets while there is room: `lo` and a container's.
const NET_ROWS_MIN: usize = 2;
/// Number of entries of a namespace that are read while any may be: those two and their addresses.
const NET_ENTRIES_MIN: u32 = 8;
const _: () = assert!(NET_ENTRIES_MIN <= ENTRIES_MIN && ENTRIES_MIN <= ENTRIES_MAX);
/// Batches that an entry takes.
pub(super) const ENTRY_BATCHES: u64 = 4;

/// How far a namespace's list of devices was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extent {
    Whole,
    /// There was no room, or no entry may be read any more.
    Cut,
    /// An entry cannot be read, or is in a list twice.
    Broken,
}

impl Walker {
    /// Brings `interfaces` up to date. A device is found through the one before it, so a machine
    /// with many devices costs many rounds. The first scan reads all, and then every
    /// `INTERFACES_EVERY_SCANS`-th. The others read those of young namespaces.
    pub(super) fn update_interfaces(&mut self, memory: &mut ScannedMemory<'_>) {
        self.note_nets();
        self.owner_turn = self.owner_turn.wrapping_add(1);
        let is_due = self.interface_age == 0;
        // A scan without time leaves them to the next one, unless none has read them.
        let is_left = memory.meter.is_late() && !self.snapshot.interfaces.is_empty();
        if is_due && !is_left {
            self.read_interfaces(memory);
            self.note_all_read();
        } else {
            self.read_young_nets(memory);
            if is_due {
                return;
            }
        }
        self.interface_age = (self.interface_age + 1) % INTERFACES_EVERY_SCANS;
    }

    /// Fills `interfaces`. Lists are followed entry by entry, so this costs a round for each entry.
    /// Owners take turns, and no namespace gets more than its share of room and entries.
    fn read_interfaces(&mut self, memory: &mut ScannedMemory<'_>) {
        self.snapshot.interfaces.clear();
        self.list_all_nets();
        self.visited.clear();
        let left = (memory.meter.batches_left() / ENTRY_BATCHES).min(ENTRIES_MAX.into());
        let mut left = (left as u32).max(ENTRIES_MIN);
        let count = self.scratch.due_nets.len();
        for turn in 0..count {
            let index = self.scratch.due_nets[turn].net;
            let net = self.snapshot.nets[index];
            // The initial namespace is the first row, and only root of the machine adds to it.
            let is_initial = index.position() == 0;
            let shares = if is_initial { (count - turn).min(2) } else { count - turn };
            let rows = (self.snapshot.interfaces.room() / shares).max(NET_ROWS_MIN);
            let share = (left / shares as u32).max(NET_ENTRIES_MIN).min(left);
            let mut left_of_net = share;
            let extent = self.read_devices(memory, &net, rows, &mut left_of_net);
            left -= share - left_of_net;
            if extent == Extent::Cut {
                let bound = if left_of_net == 0 { share as usize } else { rows };
                self.snapshot.losses.cut(WalkedStructure::InterfaceList, bound);
            }
        }
    }

    /// Adds at most `rows` of a namespace's interfaces. `left` is the number of entries that may
    /// still be read.
    pub(super) fn read_devices(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        net: &NetRow,
        rows: usize,
        left: &mut u32,
    ) -> Extent {
        let layouts = &memory.kernel.layouts;
        let layout = &layouts.net_device;
        let end = net.address.plus(u64::from(layouts.net.dev_base_head.offset));
        let mut link = net.first_device;
        let mut rows = rows.min(self.snapshot.interfaces.room());
        let entries = *left;
        loop {
            if link == end || link.is_null() {
                return Extent::Whole;
            }
            if rows == 0 || *left == 0 {
                return Extent::Cut;
            }
            rows -= 1;
            *left -= 1;
            let device = link.minus(u64::from(layout.dev_list.offset));
            // Each entry costs a round, so a forged ring must not be followed up to the maximum
            // length of a list. The set has room for more entries than a scan reads.
            if let Err(stop) = visit(&mut self.visited, device) {
                self.snapshot.losses.stop(WalkedStructure::InterfaceList, stop);
                return Extent::Broken;
            }
            let Some(view) = memory.read_one(&mut self.reader, device, &layout.packing) else {
                self.snapshot.losses.miss(WalkedStructure::InterfaceList, device);
                return Extent::Broken;
            };
            link = KernelVa(view.u64_at(layout.dev_list, 0));
            let (ipv4, ipv6) = (view.pointer(layout.ip_ptr), view.pointer(layout.ip6_ptr));
            let has_mac = view.unsigned(layout.addr_len) == MAC_BYTES as u64;
            let mac = if has_mac { view.pointer(layout.dev_addr) } else { KernelVa::NULL };
            let mut row = InterfaceRow {
                name: padded(view.bytes(layout.name)),
                index: view.unsigned(layout.ifindex) as u32,
                network_namespace: net.inum,
                ..InterfaceRow::default()
            };
            self.reader.clear();
            self.reader.push_filled(&memory.kernel.space, mac, MAC_BYTES as u32);
            memory.run(&mut self.reader);
            row.mac = self.reader.object(0).map(padded);
            let lists = [
                self.read_ipv4(memory, ipv4, &mut row, (entries, &mut *left)),
                self.read_ipv6(memory, ipv6, &mut row, (entries, &mut *left)),
            ];
            let is_whole = lists.iter().all(Result::is_ok);
            for stop in lists.into_iter().filter_map(Result::err) {
                self.snapshot.losses.stop(WalkedStructure::AddressList, stop);
            }
            // Half of a copied interface would be wrong, and no later scan can read the rest.
            if is_whole || !self.snapshot.copied.is_copy() {
                self.snapshot.interfaces.push(row);
            } else {
                self.snapshot.losses.miss(WalkedStructure::Interface, device);
            }
        }
    }

    /// Reads the addresses of IPv4, as many as have room. Of so many entries of the namespace,
    /// `left` may still be read. An error is the reason that one could not be read.
    fn read_ipv4(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        in_device: KernelVa,
        row: &mut InterfaceRow,
        (entries, left): (u32, &mut u32),
    ) -> Result<(), EarlyStop> {
        let layouts = &memory.kernel.layouts;
        let (device, address) = (&layouts.in_device, &layouts.in_ifaddr);
        let Some(view) = memory.read_one(&mut self.reader, in_device, &device.packing) else {
            return unread_device(in_device);
        };
        let mut at = view.pointer(device.ifa_list);
        while !at.is_null() {
            if row.ipv4.is_full() || *left == 0 {
                let has_room = !row.ipv4.is_full();
                self.cut_addresses(if has_room { entries } else { row.ipv4.len() as u32 });
                break;
            }
            *left -= 1;
            visit(&mut self.visited, at)?;
            let view = memory.read_one(&mut self.reader, at, &address.packing);
            let view = view.ok_or(EarlyStop::Unreadable { address: at })?;
            // There is room for it.
            let _ = row.ipv4.try_push(padded::<4>(view.bytes(address.ifa_local)).into());
            at = view.pointer(address.ifa_next);
        }
        Ok(())
    }

    /// The same of IPv6.
    fn read_ipv6(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        inet6_dev: KernelVa,
        row: &mut InterfaceRow,
        (entries, left): (u32, &mut u32),
    ) -> Result<(), EarlyStop> {
        let layouts = &memory.kernel.layouts;
        let (device, address) = (&layouts.inet6_dev, &layouts.inet6_ifaddr);
        let end = inet6_dev.plus(u64::from(device.addr_list.offset));
        let Some(view) = memory.read_one(&mut self.reader, inet6_dev, &device.packing) else {
            return unread_device(inet6_dev);
        };
        let mut link = KernelVa(view.u64_at(device.addr_list, 0));
        while link != end {
            if row.ipv6.is_full() || *left == 0 {
                let has_room = !row.ipv6.is_full();
                self.cut_addresses(if has_room { entries } else { row.ipv6.len() as u32 });
                break;
            }
            *left -= 1;
            let at = link.minus(u64::from(address.if_list.offset));
            visit(&mut self.visited, at)?;
            let view = memory.read_one(&mut self.reader, at, &address.packing);
            let view = view.ok_or(EarlyStop::Unreadable { address: at })?;
            let _ = row.ipv6.try_push(padded::<16>(view.bytes(address.addr)).into());
            link = KernelVa(view.u64_at(address.if_list, 0));
        }
        Ok(())
    }

    /// Notes that an interface has more than this number of addresses, or its namespace more than
    /// this number of entries.
    #[cold]
    fn cut_addresses(&mut self, limit: u32) {
        let stop = EarlyStop::TooLong { limit };
        self.snapshot.losses.stop(WalkedStructure::AddressList, stop);
    }
}

/// The result for a structure with a list of addresses that was not read. Without one, an interface
/// has no addresses of that family.
const fn unread_device(address: KernelVa) -> Result<(), EarlyStop> {
    if address.is_null() { Ok(()) } else { Err(EarlyStop::Unreadable { address }) }
}

/// The first bytes of `bytes`, with zeros where there are too few.
fn padded<const BYTES: usize>(bytes: &[u8]) -> [u8; BYTES] {
    let mut all = [0; BYTES];
    all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::memory::{Sparse, kernel, small, va, walker};

    /// An interface with addresses of one family.
    struct AddressListScene {
        memory: Sparse,
        net: NetRow,
        family: &'static str,
        /// The head of the list, and its entries.
        head: u64,
        entries: Vec<u64>,
    }

    impl AddressListScene {
        fn new(family: &'static str, count: usize) -> Self {
            let mut memory = Sparse::default();
            let [net, device, head] = [0; 3].map(|_| memory.structure());
            let entries: Vec<u64> = (0..count).map(|_| memory.structure()).collect();
            memory.set(device, "net_device", "dev_list", net);
            memory.set(device, "net_device", family, head);
            let link = va(Sparse::field(device, "net_device", "dev_list"));
            let net = NetRow { address: va(net), first_device: link, ..NetRow::default() };
            let mut all = Self { memory, net, family, head, entries };
            // A list of IPv6 ends at its head.
            let end = if family == "ip_ptr" { 0 } else { head };
            all.link(head, all.entries[0]);
            for at in 0..count {
                all.link(all.entries[at], all.entries.get(at + 1).copied().unwrap_or(end));
            }
            all
        }

        fn link(&mut self, from: u64, to: u64) {
            let (structure, path) = match self.family {
                _ if from == self.head && self.family == "ip_ptr" => ("in_device", "ifa_list"),
                _ if from == self.head => ("inet6_dev", "addr_list"),
                "ip_ptr" => ("in_ifaddr", "ifa_next"),
                _ => ("inet6_ifaddr", "if_list"),
            };
            self.memory.set(from, structure, path, to);
        }

        /// Returns the number of addresses that a scan finds, and its reasons to stop.
        fn read(&mut self) -> (usize, Vec<String>) {
            self.read_some(ENTRIES_MIN)
        }

        /// The same of a scan that may read so many entries.
        fn read_some(&mut self, mut left: u32) -> (usize, Vec<String>) {
            let (mut walker, net) = (walker(&small()), self.net);
            let extent = self.memory.walk(&mut walker, &kernel(), |walker, memory| {
                walker.read_devices(memory, &net, 8, &mut left)
            });
            let snapshot = &walker.snapshot;
            let found = snapshot.interfaces.iter().map(|row| row.ipv4.len() + row.ipv6.len());
            assert_eq!(extent, Extent::Whole);
            assert!(snapshot.losses.is_whole(), "the interface has a row");
            let stops = snapshot.losses.frequent_stops();
            (found.sum(), stops.iter().map(ToString::to_string).collect())
        }
    }

    #[test]
    fn lists_of_addresses_that_end_early_are_named() {
        for family in ["ip_ptr", "ip6_ptr"] {
            let stop = |reason: &str| vec![format!("addresses of an interface: {reason}")];
            assert_eq!(AddressListScene::new(family, 3).read(), (3, vec![]));
            assert_eq!(AddressListScene::new(family, 16).read(), (16, vec![]));
            assert_eq!(AddressListScene::new(family, 17).read(), (16, stop("longer than 16")));
            // One entry is the interface.
            let mut long = AddressListScene::new(family, 9);
            assert_eq!(long.read_some(8), (7, stop("longer than 8")));

            let mut ring = AddressListScene::new(family, 4);
            let (first, last) = (ring.entries[1], ring.entries[3]);
            ring.link(last, first);
            assert_eq!(ring.read(), (4, stop(&format!("loop at {first:#x}"))));

            let mut torn = AddressListScene::new(family, 4);
            let missing = torn.entries[2];
            torn.memory.missing.push(missing..missing + 8);
            assert_eq!(torn.read(), (2, stop(&format!("unreadable at {missing:#x}"))));

            let mut lost = AddressListScene::new(family, 4);
            let head = lost.head;
            lost.memory.missing.push(head..head + 8);
            assert_eq!(lost.read(), (0, stop(&format!("unreadable at {head:#x}"))));
        }
    }
}
