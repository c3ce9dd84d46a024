//! `struct net` (include/net/net_namespace.h): a network namespace.

crate::layout! {
    /// `struct net` (include/net/net_namespace.h).
    pub struct Net("net") {
        /// Number, as in `net:[4026531840]`.
        inum: ["ns.inum"],
        /// Head of the list of devices.
        dev_base_head: ["dev_base_head"],
        /// `struct inet_hashinfo *`: the table of the namespace's TCP sockets. Since Linux commit
        /// d1e5e6408b30 ("tcp: Introduce optional per-netns ehash") (in v6.1), a namespace may have
        /// its own.
        hashinfo: ["ipv4.tcp_death_row.hashinfo", "ipv4.tcp_death_row->hashinfo"],
        /// `struct udp_table *`: the table of the namespace's UDP sockets. Since Linux commit
        /// 9804985bf27f ("udp: Introduce optional per-netns hash table.") (in v6.2), a namespace
        /// may have its own; before, all use the symbol `udp_table`.
        udp_table?: ["ipv4.udp_table"],
    }
}
