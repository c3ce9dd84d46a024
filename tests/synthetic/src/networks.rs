//! Network namespaces, their devices and the addresses of these.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::net_device::MAC_BYTES;

use crate::machine::Machine;

impl Machine {
    /// Gives a process a network namespace of its own (`unshare`), with a loopback device that is
    /// down. Returns its `struct net`.
    pub fn unshare_network(&mut self, pid: u32) -> KernelVa {
        let layouts = self.layouts();
        let net = self.memory.allocate(layouts.net.size);
        // As in the kernel, a number is not in use twice: it follows from the address.
        self.memory.put(net, layouts.net.inum, 0xf000_0000 | (net.0 >> 6 & 0xfff_ffff));
        self.memory.point(net, layouts.net.hashinfo, self.kernel.symbol("tcp_hashinfo"));
        self.boot_devices(net);
        let task = self.process(pid).task;
        let old = KernelVa(self.memory.get(task, layouts.task_struct.nsproxy));
        let layout = &layouts.nsproxy;
        let [mnt_ns, uts] = [layout.mnt_ns, layout.uts_ns].map(|it| self.memory.get(old, it));
        let nsproxy = self.new_nsproxy(KernelVa(mnt_ns), net, KernelVa(uts));
        self.memory.point(task, layouts.task_struct.nsproxy, nsproxy);
        net
    }

    /// `struct net` of a process.
    pub(crate) fn network_of(&self, pid: u32) -> KernelVa {
        let layouts = self.layouts();
        let nsproxy = self.memory.get(self.process(pid).task, layouts.task_struct.nsproxy);
        KernelVa(self.memory.get(KernelVa(nsproxy), layouts.nsproxy.net_ns))
    }

    /// The list of devices, with the loopback device, which has no address before it is up.
    pub(crate) fn boot_devices(&mut self, net: KernelVa) {
        let head = net.plus(self.layouts().net.dev_base_head.offset.into());
        self.memory.list_init(head);
        let lo = self.new_device(net, "lo", 1, [0; MAC_BYTES]);
        if net == self.kernel.symbol("init_net") {
            self.add_address(lo, [127, 0, 0, 1]);
        }
    }

    /// Adds a device with an address to a namespace; returns its `struct net_device`.
    pub fn add_device(&mut self, net: KernelVa, name: &str, index: u64, ipv4: [u8; 4]) -> KernelVa {
        let device = self.new_device(net, name, index, [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        self.add_address(device, ipv4);
        device
    }

    /// Adds a device without an address (`list_netdevice`).
    pub fn new_device(
        &mut self,
        net: KernelVa,
        name: &str,
        index: u64,
        mac: [u8; MAC_BYTES],
    ) -> KernelVa {
        let layouts = self.layouts();
        let layout = &layouts.net_device;
        let device = self.memory.allocate(layout.size);
        self.put_text(device, layout.name, name);
        self.memory.put(device, layout.ifindex, index);
        let address = self.memory.allocate(32);
        self.memory.write(address, &mac);
        self.memory.point(device, layout.dev_addr, address);
        self.memory.put(device, layout.addr_len, MAC_BYTES as u64);
        let in_device = self.memory.allocate(layouts.in_device.size);
        self.memory.point(device, layout.ip_ptr, in_device);
        let inet6 = self.memory.allocate(layouts.inet6_dev.size);
        self.memory.list_init(inet6.plus(layouts.inet6_dev.addr_list.offset.into()));
        self.memory.point(device, layout.ip6_ptr, inet6);
        let head = net.plus(layouts.net.dev_base_head.offset.into());
        self.memory.list_add_tail(device.plus(layout.dev_list.offset.into()), head);
        device
    }

    /// Gives a device one more address, before its others (`ip addr add`).
    pub fn add_address(&mut self, device: KernelVa, ipv4: [u8; 4]) {
        let layouts = self.layouts();
        let in_device = KernelVa(self.memory.get(device, layouts.net_device.ip_ptr));
        let next = self.memory.get(in_device, layouts.in_device.ifa_list);
        let entry = self.memory.allocate(layouts.in_ifaddr.size);
        let local = u32::from_le_bytes(ipv4);
        self.memory.put(entry, layouts.in_ifaddr.ifa_local, local.into());
        self.memory.put(entry, layouts.in_ifaddr.ifa_next, next);
        self.memory.point(in_device, layouts.in_device.ifa_list, entry);
    }
}
