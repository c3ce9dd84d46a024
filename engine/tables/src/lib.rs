//! Collections of fixed capacity. All memory is allocated when they are made; what does not fit is
//! counted, and nothing grows.
//!
//! - [`Rows`] is a list of rows that one scan fills and the next one clears. Rows refer to each
//!   other by [`Index`].
//! - [`AddressMap`] finds a row by an address of the guest, and is cleared in constant time.
//!   [`AddressedRows`] is a list of rows with such a map.
//! - [`Table`] keeps rows from scan to scan, found by key. [`HashIndex`] finds rows that are kept
//!   elsewhere. [`ListPool`] keeps short lists of rows.
//! - [`Strings`] keeps each string once. [`CutText`] is the beginning of a long one, with a hash.
//! - [`RecentList`] keeps the last things.
//! - [`Shares`] divides the room of a table fairly among those who fill it.
//! - [`LimitGauge`] reports a full table once. [`Histogram`] counts values by size.
//! - [`Tag`] stands for an address in small rows.
//! - [`room`] allocates their memory, and counts it before.
//!
//! The guest chooses the keys, so every hash uses a secret key of this run ([`HashKey`]), and
//! probes are bounded. [`ScanNumber`] numbers scans.
//!
//! Not for: anything that knows a kernel, a process or a record.
//!
//! Start reading at [`Table`].
#![forbid(unsafe_code)]

mod address_map;
mod counts;
mod cut_text;
mod hash_index;
mod hash_key;
mod histogram;
mod index;
mod keyed;
mod latest;
mod limit_gauge;
mod list_pool;
pub mod room;
mod rows;
mod scan;
mod shares;
mod strings;
mod table;
mod tag;

pub use address_map::{AddressMap, Insertion};
pub use counts::OwnerCounts;
pub use cut_text::{CUT_BYTES_MIN, CutText};
pub use hash_index::HashIndex;
pub use hash_key::{GOLDEN_RATIO, HashKey};
pub use histogram::Histogram;
pub use index::{Index, Span};
pub use keyed::AddressedRows;
pub use latest::RecentList;
pub use limit_gauge::{Crossing, LimitGauge};
pub use list_pool::{ListPool, PoolCursor, PoolList};
pub use rows::Rows;
pub use scan::ScanNumber;
pub use shares::{OwnerAboveShare, Shares, fair_share};
pub use strings::{HEADER_BYTES, STRING_BYTES_MAX, StringId, StringRoom, Strings};
pub use table::{Key, Row, RowId, Table};
pub use tag::Tag;
