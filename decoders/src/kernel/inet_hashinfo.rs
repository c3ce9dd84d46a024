//! `struct inet_hashinfo` (include/net/inet_hashtables.h): where all TCP sockets hang.

crate::layout! {
    /// `struct inet_hashinfo` (include/net/inet_hashtables.h).
    pub struct InetHashinfo("inet_hashinfo") {
        /// Array of buckets of connections: each one pointer.
        ehash: ["ehash"],
        /// Count of those buckets less one.
        ehash_mask: ["ehash_mask"],
        /// Buckets of all listeners, by port, in the structure itself. Until Linux commit cae3873c5b3a ("net:
        /// inet: Retire port only listening_hash") (in v5.19); since then all are in `lhash2`.
        listening_hash?: ["listening_hash"],
        /// Array of buckets of listeners, by port and address. Where there is a `listening_hash` too, its
        /// lists are linked by another field than those.
        lhash2?: ["lhash2"],
        /// Count of those buckets less one.
        lhash2_mask?: ["lhash2_mask"],
    }
}

crate::layout! {
    /// `struct inet_listen_hashbucket` (include/net/inet_hashtables.h).
    pub struct InetListenHashbucket("inet_listen_hashbucket") {
        /// First socket of the bucket.
        first: ["nulls_head.first", "head.first"],
    }
}

/// Size of `struct inet_ehash_bucket` in bytes: a `hlist_nulls_head`, one pointer.
pub const EHASH_BUCKET_BYTES: u32 = 8;
/// Most buckets that are read: as many as the kernel makes at the most (`thash_entries`,
/// net/ipv4/tcp.c: 512 Ki).
pub const EHASH_BUCKETS_MAX: u32 = 1 << 19;
/// Most buckets of listeners that are read (net/ipv4/tcp.c: 64 Ki).
pub const LHASH2_BUCKETS_MAX: u32 = 1 << 16;
