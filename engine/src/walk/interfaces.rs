//! Network interfaces and their addresses. Which namespaces are read in which scan is in
//! [`super::young_nets`].

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::net_device::MAC_BYTES;

use super::losses::WalkedStructure;
use super::snapshot::{InterfaceRow, NetRow};
use super::{ScannedMemory, Walker};
use panoptes_tables::Insertion;

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
            self.snapshot.losses.dropped += u32::from(extent == Extent::Cut);
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
            if !self.is_first_visit(device) {
                let stop = EarlyStop::Loop { address: device };
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
            let is_whole = self.read_ipv4(memory, ipv4, &mut row, left)
                & self.read_ipv6(memory, ipv6, &mut row, left);
            // Half of a copied interface would be wrong, and no later scan can read the rest.
            if is_whole || !self.snapshot.copied.is_copy() {
                self.snapshot.interfaces.push(row);
            } else {
                self.snapshot.losses.miss(WalkedStructure::Interface, device);
            }
        }
    }

    /// Reads the addresses of IPv4; `false` if something could not be read.
    fn read_ipv4(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        in_device: KernelVa,
        row: &mut InterfaceRow,
        left: &mut u32,
    ) -> bool {
        let layouts = &memory.kernel.layouts;
        let (device, address) = (&layouts.in_device, &layouts.in_ifaddr);
        let view = memory.read_one(&mut self.reader, in_device, &device.packing);
        let is_read = view.is_some() || in_device.is_null();
        let mut at = view.map_or(KernelVa::NULL, |view| view.pointer(device.ifa_list));
        while !at.is_null() && !row.ipv4.is_full() && *left > 0 {
            *left -= 1;
            if !self.is_first_visit(at) {
                return false;
            }
            let Some(view) = memory.read_one(&mut self.reader, at, &address.packing) else {
                return false;
            };
            // There is room for it.
            let _ = row.ipv4.try_push(padded::<4>(view.bytes(address.ifa_local)).into());
            at = view.pointer(address.ifa_next);
        }
        is_read
    }

    /// The same of IPv6.
    fn read_ipv6(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        inet6_dev: KernelVa,
        row: &mut InterfaceRow,
        left: &mut u32,
    ) -> bool {
        let layouts = &memory.kernel.layouts;
        let (device, address) = (&layouts.inet6_dev, &layouts.inet6_ifaddr);
        let end = inet6_dev.plus(u64::from(device.addr_list.offset));
        let view = memory.read_one(&mut self.reader, inet6_dev, &device.packing);
        let is_read = view.is_some() || inet6_dev.is_null();
        let mut link = view.map_or(end, |view| KernelVa(view.u64_at(device.addr_list, 0)));
        while link != end && !row.ipv6.is_full() && *left > 0 {
            *left -= 1;
            let at = link.minus(u64::from(address.if_list.offset));
            if !self.is_first_visit(at) {
                return false;
            }
            let Some(view) = memory.read_one(&mut self.reader, at, &address.packing) else {
                return false;
            };
            let _ = row.ipv6.try_push(padded::<16>(view.bytes(address.addr)).into());
            link = KernelVa(view.u64_at(address.if_list, 0));
        }
        is_read
    }

    /// Whether this is the first visit of a list entry. Each entry costs a round, so a forged ring
    /// must not be followed up to the maximum length of a list.
    fn is_first_visit(&mut self, at: KernelVa) -> bool {
        self.visited.insert(at.0, 0) == Insertion::New
    }
}

/// The first bytes of `bytes`, with zeros where there are too few.
fn padded<const BYTES: usize>(bytes: &[u8]) -> [u8; BYTES] {
    let mut all = [0; BYTES];
    all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    all
}
