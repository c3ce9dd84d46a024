//! TCP and AF_UNIX sockets, and the hash tables of TCP.

use std::net::{IpAddr, SocketAddr};

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::sock::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, TcpState};
use panoptes_decoders::kernel::unix_sock::AF_UNIX;

use crate::machine::Machine;

/// Buckets of connections and of listeners.
const EHASH_BUCKETS: u64 = 4096;
const LISTEN_BUCKETS: u64 = 64;
/// `PROC_NET_INIT_INO` (include/uapi/linux/nsfs.h).
const FIRST_NET_NAMESPACE: u64 = 0xefff_fff9;

/// The tables and devices of the initial network namespace.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Address of the first listeners' bucket, their number and their size.
    listeners: (KernelVa, u64, u64),
    ehash: KernelVa,
    /// `struct dst_entry` of the route through eth0.
    route: KernelVa,
    waiting: Vec<Waiting>,
}

/// A socket that a descriptor leads to.
#[derive(Clone, Debug)]
pub struct Socket {
    /// `struct sock *`
    pub sock: KernelVa,
    /// `struct socket *`
    holder: KernelVa,
    /// Inode number.
    pub ino: u64,
    /// `AF_*`
    pub family: u16,
    pub state: TcpState,
    pub source: Option<SocketAddr>,
    pub destination: Option<SocketAddr>,
    /// Head of the hash table's chain that it is in.
    chain: Option<KernelVa>,
    /// Whether its connection continues in TIME_WAIT after its end here.
    waits: bool,
}

/// A connection in TIME_WAIT: no file and no process has it.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// `struct inet_timewait_sock *`
    sock: KernelVa,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl Machine {
    /// `init_net` with its tables and two devices.
    pub(crate) fn boot_network(&mut self) {
        let layouts = self.layouts();
        let net = self.kernel.symbol("init_net");
        self.memory.put(net, layouts.net.inum, FIRST_NET_NAMESPACE);
        let hashinfo = self.kernel.symbol("tcp_hashinfo");
        self.memory.point(net, layouts.net.hashinfo, hashinfo);
        let layout = &layouts.inet_hashinfo;
        let ehash = self.memory.allocate(EHASH_BUCKETS as u32 * 8);
        self.memory.point(hashinfo, layout.ehash, ehash);
        self.memory.put(hashinfo, layout.ehash_mask, EHASH_BUCKETS - 1);
        let bucket = layouts.inet_listen_hashbucket;
        let listeners = if let Some(inside) = layout.listening_hash {
            (hashinfo.plus(inside.offset.into()), u64::from(inside.size / bucket.size))
        } else {
            let table = self.memory.allocate(LISTEN_BUCKETS as u32 * bucket.size);
            self.memory.put_optional(hashinfo, layout.lhash2, table.0);
            self.memory.put_optional(hashinfo, layout.lhash2_mask, LISTEN_BUCKETS - 1);
            (table, LISTEN_BUCKETS)
        };
        // An empty list holds the mark of its end: the number of its bucket
        // (`INIT_HLIST_NULLS_HEAD`).
        for index in 0..EHASH_BUCKETS {
            self.memory.put_word(ehash.plus(index * 8), index << 1 | 1);
        }
        let (first, size) = (u64::from(bucket.first.offset), u64::from(bucket.size));
        for index in 0..listeners.1 {
            let head = listeners.0.plus(index * size + first);
            self.memory.put_word(head, (index + (1 << 29)) << 1 | 1);
        }
        let listeners = (listeners.0.plus(first), listeners.1, size);
        self.boot_devices(net);
        let eth0 = self.add_device(net, "eth0", 2, [10, 0, 2, 15]);
        let route = self.memory.allocate(layouts.dst_entry.size);
        self.memory.point(route, layouts.dst_entry.dev, eth0);
        self.network = Network { listeners, ehash, route, waiting: Vec::new() };
    }

    /// `sock_alloc` and `sk_alloc`, and a descriptor. Returns the descriptor and its file.
    fn new_socket(&mut self, pid: u32, family: u16) -> (u32, KernelVa) {
        let layouts = self.layouts();
        let socket = self.memory.allocate(layouts.socket_alloc.size);
        let inode = layouts.socket_alloc.ino.offset - layouts.inode.i_ino.offset;
        let node = self.new_socket_node(socket.plus(inode.into()));
        let file = self.new_file(node, socket);
        let bytes = self.sock_bytes(family);
        let sock = self.memory.allocate(bytes);
        let common = &layouts.sock_common;
        let protocol = if family == AF_UNIX { 0 } else { IPPROTO_TCP };
        let net = self.network_of(pid);
        for (field, value) in [
            (common.skc_family, family.into()),
            (common.skc_state, TcpState::Closed as u64),
            (common.skc_net, net.0),
            (common.skc_prot, self.kernel.code(4).0),
            (layouts.sock.sk_type, SOCK_STREAM.into()),
            (layouts.sock.sk_protocol, protocol.into()),
            (layouts.sock.sk_socket, socket.0),
        ] {
            self.memory.put(sock, field, value);
        }
        self.memory.point(socket, layouts.socket.sk, sock);
        self.memory.point(socket, layouts.socket.file, file);
        let row = Socket {
            sock,
            holder: socket,
            ino: self.ino_of(node),
            family,
            state: TcpState::Closed,
            source: None,
            destination: None,
            chain: None,
            waits: false,
        };
        self.sockets.insert(file, row);
        (self.install_new(pid, file), file)
    }

    fn sock_bytes(&self, family: u16) -> u32 {
        let layouts = &self.kernel.layouts;
        match layouts.unix_sock {
            Some(unix) if family == AF_UNIX => unix.size,
            _ => layouts.tcp_sock.size,
        }
    }

    /// Connects two new AF_UNIX sockets of a process (`socketpair`); returns their descriptors.
    pub fn socket_pair(&mut self, pid: u32) -> [u32; 2] {
        let [one, other] = [(); 2].map(|()| self.new_socket(pid, AF_UNIX));
        let [a, b] = [one, other].map(|(_, file)| self.sockets[&file].sock);
        let layouts = self.layouts();
        if let Some(unix) = layouts.unix_sock {
            self.memory.point(a, unix.peer, b);
            self.memory.point(b, unix.peer, a);
        }
        for (_, file) in [one, other] {
            self.set_state(file, TcpState::Established);
        }
        [one.0, other.0]
    }

    /// Listens on an address with a new socket; returns its descriptor.
    pub fn listen(&mut self, pid: u32, source: SocketAddr) -> u32 {
        let (descriptor, file) = self.new_socket(pid, family_of(source));
        self.set_ends(file, source, SocketAddr::new(source.ip(), 0), true);
        self.set_state(file, TcpState::Listen);
        let (first, count, size) = self.network.listeners;
        self.hash(file, first.plus(u64::from(source.port()) % count * size));
        descriptor
    }

    /// Connects a new socket to a peer; returns its descriptor. The socket is in the table before
    /// the peer answers (`tcp_v4_connect`).
    pub fn connect(&mut self, pid: u32, source: SocketAddr, destination: SocketAddr) -> u32 {
        let (descriptor, file) = self.new_socket(pid, family_of(source));
        self.set_ends(file, source, destination, false);
        self.set_state(file, TcpState::SynSent);
        self.hash_connection(file);
        self.set_state(file, TcpState::Established);
        descriptor
    }

    /// Accepts a peer; returns the new descriptor. The connection is in the table before a
    /// descriptor leads to it, as the kernel has it.
    pub fn accept(&mut self, pid: u32, source: SocketAddr, destination: SocketAddr) -> u32 {
        let (descriptor, file) = self.new_socket(pid, family_of(source));
        self.set_ends(file, source, destination, false);
        self.set_state(file, TcpState::Established);
        self.hash_connection(file);
        descriptor
    }

    /// A connection that has ended here and waits for late segments (`tcp_time_wait`): no file and
    /// no process has it.
    pub fn time_wait(&mut self, source: SocketAddr, destination: SocketAddr) {
        let net = self.kernel.symbol("init_net");
        let bucket = self.random.below(EHASH_BUCKETS);
        let chain = self.network.ehash.plus(bucket * 8);
        self.add_time_wait(net, (source, destination), chain);
    }

    /// `inet_twsk_alloc` and `inet_twsk_hashdance`.
    fn add_time_wait(
        &mut self,
        net: KernelVa,
        (source, destination): (SocketAddr, SocketAddr),
        chain: KernelVa,
    ) {
        let layouts = self.layouts();
        let layout = &layouts.inet_timewait_sock;
        let sock = self.memory.allocate(layout.size);
        self.memory.put(sock, layouts.sock_common.skc_family, family_of(source).into());
        self.memory.point(sock, layouts.sock_common.skc_net, net);
        self.memory.put(sock, layouts.sock_common.skc_state, TcpState::TimeWait as u64);
        self.memory.put(sock, layout.tw_substate, TcpState::TimeWait as u64);
        self.store_ends(sock, source, destination);
        let node = sock.plus(layouts.sock_common.skc_node.offset.into());
        self.memory.hlist_add_head(node, chain);
        self.network.waiting.push(Waiting { sock, source, destination });
    }

    /// Lets a connection continue in TIME_WAIT when its last descriptor is closed.
    pub fn linger(&mut self, pid: u32, descriptor: u32) {
        let (file, _) = self.tables[&self.files_of(pid)].open[&descriptor];
        self.sockets.get_mut(&file).expect("the file is a socket").waits = true;
    }

    /// Ends the connection in TIME_WAIT at a position in [`Self::waiting`] (`inet_twsk_kill`).
    pub fn end_time_wait(&mut self, position: usize) {
        let layouts = self.layouts();
        let Waiting { sock, .. } = self.network.waiting.remove(position);
        self.memory.hlist_del(sock.plus(layouts.sock_common.skc_node.offset.into()));
        self.memory.release(sock, layouts.inet_timewait_sock.size);
    }

    /// The connections in TIME_WAIT.
    pub fn waiting(&self) -> &[Waiting] {
        &self.network.waiting
    }

    /// The peer of a connection closes it (`tcp_fin`).
    pub fn close_by_peer(&mut self, pid: u32, descriptor: u32) {
        let (file, _) = self.tables[&self.files_of(pid)].open[&descriptor];
        self.set_state(file, TcpState::CloseWait);
    }

    /// Adds to the counters of a connection.
    pub fn transfer(&mut self, pid: u32, descriptor: u32, bytes_in: u64, bytes_out: u64) {
        let (file, _) = self.tables[&self.files_of(pid)].open[&descriptor];
        let sock = self.sockets[&file].sock;
        let layout = self.layouts().tcp_sock;
        let segments = |bytes: u64| bytes.div_ceil(1448);
        for (field, more) in [
            (layout.bytes_received, bytes_in),
            (layout.bytes_sent, bytes_out),
            (layout.segs_in, segments(bytes_in)),
            (layout.data_segs_in, segments(bytes_in)),
            (layout.segs_out, segments(bytes_out)),
            (layout.data_segs_out, segments(bytes_out)),
        ] {
            let before = self.memory.get(sock, field);
            self.memory.put(sock, field, before + more);
        }
    }

    fn set_ends(
        &mut self,
        file: KernelVa,
        source: SocketAddr,
        destination: SocketAddr,
        is_listener: bool,
    ) {
        let row = self.sockets.get_mut(&file).expect("the file is a socket");
        row.source = Some(source);
        row.destination = (!is_listener).then_some(destination);
        let sock = row.sock;
        let peer = if is_listener { unspecified(source.ip()) } else { destination.ip() };
        self.store_ends(sock, source, SocketAddr::new(peer, destination.port()));
        if !is_listener {
            let (route, field) = (self.network.route, self.layouts().sock.sk_dst_cache);
            self.memory.point(sock, field, route);
        }
    }

    /// Addresses and ports in a `struct sock_common`.
    fn store_ends(&mut self, sock: KernelVa, source: SocketAddr, destination: SocketAddr) {
        let layouts = self.layouts();
        let layout = &layouts.sock_common;
        self.memory.put(sock, layout.skc_num, source.port().into());
        self.memory.put(sock, layout.skc_dport, destination.port().swap_bytes().into());
        for (address, v4, v6) in [
            (source.ip(), layout.skc_rcv_saddr, layout.skc_v6_rcv_saddr),
            (destination.ip(), layout.skc_daddr, layout.skc_v6_daddr),
        ] {
            match address {
                IpAddr::V4(ip) => self.memory.write(sock.plus(v4.offset.into()), &ip.octets()),
                IpAddr::V6(ip) => self.memory.write(sock.plus(v6.offset.into()), &ip.octets()),
            }
        }
    }

    fn set_state(&mut self, file: KernelVa, state: TcpState) {
        let field = self.layouts().sock_common.skc_state;
        let row = self.sockets.get_mut(&file).expect("the file is a socket");
        row.state = state;
        let sock = row.sock;
        self.memory.put(sock, field, state as u64);
    }

    fn hash_connection(&mut self, file: KernelVa) {
        let bucket = self.random.below(EHASH_BUCKETS);
        self.hash(file, self.network.ehash.plus(bucket * 8));
    }

    fn hash(&mut self, file: KernelVa, head: KernelVa) {
        let node = u64::from(self.layouts().sock_common.skc_node.offset);
        let row = self.sockets.get_mut(&file).expect("the file is a socket");
        row.chain = Some(head);
        let sock = row.sock;
        self.memory.hlist_add_head(sock.plus(node), head);
    }

    /// `tcp_close` and `sock_release` at the last reference to a socket's file: the connection
    /// leaves the table at once, as after a reset, or another socket waits there in its place.
    pub(crate) fn close_socket(&mut self, file: KernelVa) {
        let Some(row) = self.sockets.remove(&file) else { return };
        let layouts = self.layouts();
        let common = &layouts.sock_common;
        if let (true, Some(chain), Some(source), Some(destination)) =
            (row.waits, row.chain, row.source, row.destination)
        {
            let net = KernelVa(self.memory.get(row.sock, common.skc_net));
            self.add_time_wait(net, (source, destination), chain);
        }
        if row.chain.is_some() {
            self.memory.hlist_del(row.sock.plus(common.skc_node.offset.into()));
            self.memory.put(row.sock, common.skc_num, 0);
        }
        // After the table, as in `tcp_set_state` (net/ipv4/tcp.c).
        self.memory.put(row.sock, common.skc_state, TcpState::Closed as u64);
        self.memory.put(row.sock, layouts.sock.sk_socket, 0);
        self.memory.point(row.holder, layouts.socket.sk, KernelVa::NULL);
        self.memory.point(row.holder, layouts.socket.file, KernelVa::NULL);
        self.memory.release(row.sock, self.sock_bytes(row.family));
        self.memory.release(row.holder, layouts.socket_alloc.size);
    }

    /// The sockets that descriptors lead to, by the `struct file` of each, in no order.
    pub fn sockets(&self) -> impl Iterator<Item = (KernelVa, &Socket)> {
        self.sockets.iter().map(|(&file, socket)| (file, socket))
    }
}

const fn family_of(address: SocketAddr) -> u16 {
    match address {
        SocketAddr::V4(_) => AF_INET,
        SocketAddr::V6(_) => AF_INET6,
    }
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}
