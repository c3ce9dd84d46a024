//! The ports of all UDP sockets, from the kernel's hash tables: those of processes and of the
//! kernel itself, of all network namespaces.
//!
//! Only a sensor of the machine's packets needs them ([`super::Scope::udp_ports`]).

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::sock::{AF_INET, AF_INET6, Endpoints};
use panoptes_decoders::kernel::udp_table::UDP_SLOTS_MAX;
use panoptes_decoders::layout::View;
use panoptes_tables::Insertion;

use super::connections::{Buckets, visit_socket};
use super::losses::WalkedStructure;
use super::{ScannedMemory, WalkScratch, Walker, fetch};

/// Maximum length of a chain. The kernel's own are short; one port may have many sockets.
const CHAIN_MAX: u32 = 1024;
/// Maximum number of slots in all tables together: namespaces may have their own.
const SLOTS_MAX: u32 = 4 * UDP_SLOTS_MAX;

impl Walker {
    /// Fills `udp_ports`.
    pub(super) fn read_udp_ports(&mut self, memory: &mut ScannedMemory<'_>) {
        let before = self.left_out();
        self.find_udp_tables(memory);
        let has_tables = !self.scratch.buckets.is_empty();
        self.read_buckets(memory);
        self.follow_udp_chains(memory);
        let may_translate = self.may_translate(memory);
        let is_whole = has_tables && before == self.left_out() && !memory.is_stopped();
        let ports = &mut self.snapshot.udp_ports;
        (ports.is_whole, ports.may_translate) = (is_whole, may_translate);
    }

    /// What has been left out so far.
    const fn left_out(&self) -> [u32; 4] {
        let losses = &self.snapshot.losses;
        let cut = self.snapshot.connections_cut;
        [losses.unreadable, losses.dropped, losses.unbounded, cut]
    }

    /// Whether something translates addresses. The hook is null until `nf_nat` is loaded.
    fn may_translate(&mut self, memory: &mut ScannedMemory<'_>) -> bool {
        let at = memory.kernel.roots.nf_nat_hook;
        if at.is_null() {
            // A kernel without connection tracking lacks the hook. If the symbols of data are not
            // known, it may be there.
            return memory.kernel.roots.udp_table.is_null();
        }
        let hook = memory.read_bytes(&mut self.reader, at, 8);
        hook.is_none_or(|bytes| bytes.iter().any(|byte| *byte != 0))
    }

    /// Lists the arrays of slots of all tables.
    fn find_udp_tables(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let WalkScratch { addresses: tables, buckets: list, .. } = &mut self.scratch;
        list.clear();
        let (Some(layout), Some(slot)) = (&layouts.udp_table, &layouts.udp_hslot) else { return };
        self.visited.clear();
        tables.clear();
        let own = self.snapshot.nets.iter().map(|net| net.udp_table);
        let all = own.chain([memory.kernel.roots.udp_table]).filter(|table| !table.is_null());
        tables.extend(all.filter(|at| self.visited.insert(at.0, 0) == Insertion::New));
        let losses = &mut self.snapshot.losses;
        let (stride, offset) = (slot.size, slot.first.offset);
        let mut room = SLOTS_MAX;
        fetch(&mut self.reader, memory, &layout.packing, tables, |index, bytes| {
            let Some(view) = bytes.map(View::new) else {
                losses.miss(WalkedStructure::SocketTable, tables[index]);
                return;
            };
            let count = view.unsigned(layout.mask).saturating_add(1);
            let read = count.min(UDP_SLOTS_MAX.min(room).into()) as u32;
            room -= read;
            let is_cut = count > u64::from(read);
            if is_cut {
                losses.cut(WalkedStructure::SocketTable, read as usize);
            }
            let array = view.pointer(layout.hash);
            let buckets =
                Buckets { table: tables[index], array, count: read, stride, offset, is_cut };
            if read > 0 && buckets.is_plausible() && list.len() < list.capacity() {
                list.push(buckets);
            } else {
                losses.miss(WalkedStructure::SocketTable, tables[index]);
            }
        });
    }

    /// Reads sockets and, round after round, the next one in each chain.
    fn follow_udp_chains(&mut self, memory: &mut ScannedMemory<'_>) {
        let layout = &memory.kernel.layouts.sock_common;
        let link = u64::from(layout.skc_node.offset);
        let WalkScratch { addresses: socks, more: next, .. } = &mut self.scratch;
        let (visited, snapshot) = (&mut self.visited, &mut self.snapshot);
        visited.clear();
        for _ in 0..CHAIN_MAX {
            if socks.is_empty() {
                return;
            }
            next.clear();
            fetch(&mut self.reader, memory, &layout.packing, socks, |index, bytes| {
                let Some(bytes) = bytes else {
                    snapshot.losses.miss(WalkedStructure::Socket, socks[index]);
                    return;
                };
                let full = WalkedStructure::SocketChain;
                let visit = visit_socket(visited, (&mut snapshot.losses, full), socks[index]);
                if matches!(visit, Insertion::Old(_)) {
                    return;
                }
                let ends = Endpoints::decode(layout, bytes);
                // Another family: the socket's memory has a new use.
                if matches!(ends.family, AF_INET | AF_INET6) {
                    snapshot.udp_ports.all.insert(ends.source_port);
                }
                if ends.next != 0 && ends.next & 1 == 0 {
                    if next.len() < next.capacity() {
                        next.push(KernelVa(ends.next).minus(link));
                    } else {
                        snapshot.losses.cut(WalkedStructure::SocketChain, next.capacity());
                    }
                }
            });
            mem::swap(socks, next);
        }
        if !socks.is_empty() {
            let stop = EarlyStop::TooLong { limit: CHAIN_MAX };
            snapshot.losses.stop(WalkedStructure::SocketChain, stop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::UdpPorts;
    use crate::walk::snapshot::NetRow;
    use crate::walk::tests::memory::{Sparse, kernel, small, va, walker};

    /// Writes a table with a chain of sockets in each of its first slots.
    fn table(memory: &mut Sparse, slots: u64, chains: &[&[u64]]) -> u64 {
        let table = memory.structure();
        let array = memory.room(1024 * slots.min(1 << 10));
        memory.set(table, "udp_table", "hash", array);
        memory.set(table, "udp_table", "mask", slots - 1);
        for (slot, chain) in (0..).zip(chains) {
            let mut place = array + 1024 * slot;
            for &port in *chain {
                let sock = memory.room(128);
                memory.put(place, Sparse::field(sock, "sock_common", "skc_nulls_node"));
                memory.set(sock, "sock_common", "skc_num", port);
                memory.set(sock, "sock_common", "skc_family", AF_INET6.into());
                place = Sparse::field(sock, "sock_common", "skc_nulls_node");
            }
        }
        table
    }

    /// What a scan finds with these tables of namespaces, a common one, and a hook for NAT.
    fn read(memory: &mut Sparse, tables: &[u64], common: u64, hook: u64) -> Walker {
        let mut walker = walker(&small());
        for (net, &table) in (1..).zip(tables) {
            let row = || NetRow { udp_table: va(table), ..NetRow::default() };
            walker.snapshot.nets.row_of(net, row);
        }
        let mut kernel = kernel();
        kernel.roots.udp_table = va(common);
        kernel.roots.nf_nat_hook = va(hook);
        memory.walk(&mut walker, &kernel, Walker::read_udp_ports);
        walker
    }

    fn ports(walker: &Walker) -> Vec<u16> {
        (0..=u16::MAX).filter(|&port| walker.snapshot.udp_ports.all.has(port)).collect()
    }

    #[test]
    fn the_ports_of_all_tables_and_chains_are_read() {
        let mut memory = Sparse::default();
        let common = table(&mut memory, 256, &[&[53, 4789], &[], &[68]]);
        let own = table(&mut memory, 64, &[&[51_820]]);
        let walker = read(&mut memory, &[common, own, common], common, 0);
        assert_eq!(ports(&walker), [53, 68, 4789, 51_820]);
        let UdpPorts { is_whole, may_translate, .. } = walker.snapshot.udp_ports;
        assert_eq!((is_whole, may_translate), (true, false));
    }

    #[test]
    fn what_is_left_out_is_known() {
        let mut memory = Sparse::default();
        let is_whole = |memory: &mut Sparse, common: u64| {
            read(memory, &[], common, 0).snapshot.udp_ports.is_whole
        };
        assert!(!is_whole(&mut memory, 0), "no table");
        let large = table(&mut memory, 1 << 17, &[&[53]]);
        assert!(!is_whole(&mut memory, large), "more slots than the kernel makes");
        let losses = read(&mut memory, &[], large, 0).snapshot.losses;
        let stop = losses.frequent_dropped().map(|stop| stop.to_string());
        let expected = format!("table of sockets: no room among {UDP_SLOTS_MAX}");
        assert_eq!((losses.dropped, stop), (1, Some(expected)));
        let long = [53; CHAIN_MAX as usize + 1];
        let long = table(&mut memory, 64, &[&long]);
        assert!(!is_whole(&mut memory, long), "a chain that does not end");
        let good = table(&mut memory, 64, &[&[53]]);
        assert!(is_whole(&mut memory, good));
        memory.missing.push(good..good + 8);
        assert!(!is_whole(&mut memory, good), "memory that cannot be read");
    }

    #[test]
    fn a_hook_for_nat_is_noticed() {
        let mut memory = Sparse::default();
        let common = table(&mut memory, 64, &[&[53]]);
        let hook = memory.room(8);
        let translates =
            |memory: &mut Sparse| read(memory, &[], common, hook).snapshot.udp_ports.may_translate;
        assert!(!translates(&mut memory));
        memory.put(hook, 0xffff_ffff_c012_3450);
        assert!(translates(&mut memory));
        memory.put(hook, 0);
        memory.missing.push(hook..hook + 8);
        assert!(translates(&mut memory), "unknown");
    }

    #[test]
    fn a_kernel_without_symbols_of_data_may_translate() {
        let mut memory = Sparse::default();
        let own = table(&mut memory, 64, &[&[53]]);
        let walker = read(&mut memory, &[own], 0, 0);
        let UdpPorts { is_whole, may_translate, .. } = walker.snapshot.udp_ports;
        assert_eq!((is_whole, may_translate), (true, true));
        let walker = read(&mut memory, &[own], own, 0);
        assert!(!walker.snapshot.udp_ports.may_translate);
    }
}
