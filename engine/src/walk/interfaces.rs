//! Network interfaces and their addresses.

use core::net::{Ipv4Addr, Ipv6Addr};

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::net_device::MAC_BYTES;
use panoptes_decoders::layout::{Packing, View};
use panoptes_decoders::source::MemorySource;

use super::snapshot::{InterfaceRow, NetRow};
use super::{Kernel, Walker};
use panoptes_tables::Insertion;

impl NetRow {
    pub(super) fn new(address: KernelVa) -> Self {
        Self { address, ..Self::default() }
    }
}

/// Maximum number of addresses read for one interface.
const ADDRESSES_MAX: u32 = 256;

impl Walker {
    /// Fills `interfaces`. Lists are followed entry by entry, so this costs a round for each entry.
    pub(super) fn read_interfaces<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        self.snapshot.interfaces.clear();
        self.visited.clear();
        for index in self.snapshot.nets.indexes() {
            let net = self.snapshot.nets[index];
            self.read_devices(source, kernel, &net);
        }
    }

    fn read_devices<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel, net: &NetRow) {
        let layouts = &kernel.layouts;
        let inum = net.inum;
        let layout = &layouts.net_device;
        let end = net.address.plus(u64::from(layouts.net.dev_base_head.offset));
        let mut link = net.first_device;
        while self.snapshot.interfaces.len() < self.snapshot.interfaces.capacity() {
            if link == end || link.is_null() {
                return;
            }
            let device = link.minus(u64::from(layout.dev_list.offset));
            if !self.is_first_visit(device) {
                self.snapshot.losses.unbounded += 1;
                return;
            }
            let mut row = InterfaceRow { network_namespace: inum, ..InterfaceRow::default() };
            let mut mac = KernelVa::NULL;
            let read = self.one(source, kernel, device, &layout.packing, |view| {
                row.index = view.unsigned(layout.ifindex) as u32;
                row.name.iter_mut().zip(view.bytes(layout.name)).for_each(|(to, from)| *to = *from);
                if view.unsigned(layout.addr_len) == MAC_BYTES as u64 {
                    mac = view.pointer(layout.dev_addr);
                }
                (
                    KernelVa(view.u64_at(layout.dev_list, 0)),
                    view.pointer(layout.ip_ptr),
                    view.pointer(layout.ip6_ptr),
                )
            });
            let Some((next, ipv4, ipv6)) = read else {
                self.snapshot.losses.unreadable += 1;
                return;
            };
            self.reader.clear();
            self.reader.push_bytes(&kernel.space, mac, MAC_BYTES as u32);
            self.reader.run(source, kernel.space.levels);
            if let Some(bytes) = self.reader.object(0) {
                row.mac.copy_from_slice(bytes);
                row.mac_length = MAC_BYTES as u8;
            }
            self.read_ipv4(source, kernel, ipv4, &mut row);
            self.read_ipv6(source, kernel, ipv6, &mut row);
            self.snapshot.interfaces.push(row);
            link = next;
        }
        self.snapshot.losses.dropped += 1;
    }

    fn read_ipv4<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        in_device: KernelVa,
        row: &mut InterfaceRow,
    ) {
        let (device, address) = (&kernel.layouts.in_device, &kernel.layouts.in_ifaddr);
        let mut at = self
            .one(source, kernel, in_device, &device.packing, |view| view.pointer(device.ifa_list))
            .unwrap_or_default();
        for _ in 0..ADDRESSES_MAX {
            if at.is_null() || !self.is_first_visit(at) {
                return;
            }
            let read = self.one(source, kernel, at, &address.packing, |view| {
                let mut octets = [0; 4];
                octets
                    .iter_mut()
                    .zip(view.bytes(address.ifa_local))
                    .for_each(|(to, from)| *to = *from);
                (view.pointer(address.ifa_next), Ipv4Addr::from(octets))
            });
            let Some((next, found)) = read else { return };
            row.ipv4.push(found);
            at = next;
        }
    }

    fn read_ipv6<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        inet6_dev: KernelVa,
        row: &mut InterfaceRow,
    ) {
        let (device, address) = (&kernel.layouts.inet6_dev, &kernel.layouts.inet6_ifaddr);
        let end = inet6_dev.plus(u64::from(device.addr_list.offset));
        let mut link = self
            .one(source, kernel, inet6_dev, &device.packing, |view| {
                KernelVa(view.u64_at(device.addr_list, 0))
            })
            .unwrap_or(end);
        for _ in 0..ADDRESSES_MAX {
            if link == end {
                return;
            }
            let at = link.minus(u64::from(address.if_list.offset));
            if !self.is_first_visit(at) {
                return;
            }
            let read = self.one(source, kernel, at, &address.packing, |view| {
                let mut octets = [0; 16];
                octets.iter_mut().zip(view.bytes(address.addr)).for_each(|(to, from)| *to = *from);
                (KernelVa(view.u64_at(address.if_list, 0)), Ipv6Addr::from(octets))
            });
            let Some((next, found)) = read else { return };
            row.ipv6.push(found);
            link = next;
        }
    }

    /// Whether this is the first visit of a list entry. Each entry costs a round, so a forged ring
    /// must not be followed up to the maximum length of a list.
    fn is_first_visit(&mut self, at: KernelVa) -> bool {
        self.visited.insert(at.0, 0) == Insertion::New
    }

    fn one<S: MemorySource, T>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        address: KernelVa,
        packing: &Packing,
        decode: impl FnOnce(View<'_>) -> T,
    ) -> Option<T> {
        self.reader.clear();
        self.reader.push(&kernel.space, address, packing);
        self.reader.run(source, kernel.space.levels);
        self.reader.object(0).map(|bytes| decode(View::new(bytes)))
    }
}
