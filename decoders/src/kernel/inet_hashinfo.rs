//! `struct inet_hashinfo` (include/net/inet_hashtables.h): the hash tables of all TCP sockets.

crate::layout! {
    /// `struct inet_hashinfo` (include/net/inet_hashtables.h).
    pub struct InetHashinfo("inet_hashinfo") {
        /// Array of the buckets of connections, one pointer each.
        ehash: ["ehash"],
        /// Number of these buckets minus one.
        ehash_mask: ["ehash_mask"],
        /// Buckets of all listeners, by port, inside the structure. Until Linux commit cae3873c5b3a
        /// ("net: inet: Retire port only listening_hash") (in v5.19); since then `lhash2` has all
        /// listeners.
        listening_hash?: ["listening_hash"],
        /// Array of the buckets of listeners, by port and address. If `listening_hash` exists too,
        /// the lists of the two are linked by different fields.
        lhash2?: ["lhash2"],
        /// Number of these buckets minus one.
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
/// Maximum number of buckets that are read: the kernel's own maximum (`thash_entries`,
/// net/ipv4/tcp.c: 512 Ki).
pub const EHASH_BUCKETS_MAX: u32 = 1 << 19;
/// Maximum number of listener buckets that are read (net/ipv4/tcp.c: 64 Ki).
pub const LHASH2_BUCKETS_MAX: u32 = 1 << 16;
