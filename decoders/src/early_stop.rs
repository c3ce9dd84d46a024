//! Reasons to stop before the end of a list, tree or chain.
//!
//! A traversal of a watched machine's structures returns what it has found until then, and one of
//! these reasons.
//!
//! Not for packets: a frame has no address at which to look again. It counts for the flow of the
//! last header that was decoded. Without one, the flow sensor counts and reports it as unread.

use core::fmt;

use crate::address::KernelVa;

/// A reason to stop before the end of a list, tree or chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EarlyStop {
    /// The object at this address cannot be read, or is none of its kind.
    Unreadable { address: KernelVa },
    /// The object at this address changed while it, or what it leads to, was read.
    Changed { address: KernelVa },
    /// The object at this address was visited before.
    Loop { address: KernelVa },
    /// There are more than this number of elements, levels or rounds.
    TooLong { limit: u32 },
    /// There is no room: the table or list has this number of rows, of which an owner may get a
    /// part.
    NoRoom { rows: u32 },
}

// A scan has one for each structure and reason.
const _: () = assert!(size_of::<EarlyStop>() <= 16);

impl fmt::Display for EarlyStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { address } => write!(f, "unreadable at {address}"),
            Self::Changed { address } => write!(f, "changed at {address}"),
            Self::Loop { address } => write!(f, "loop at {address}"),
            Self::TooLong { limit } => write!(f, "longer than {limit}"),
            Self::NoRoom { rows } => write!(f, "no room among {rows}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn reasons_name_the_address_or_the_bound() {
        let address = KernelVa(0xffff_8880_0000_1000);
        let texts = [
            EarlyStop::Unreadable { address },
            EarlyStop::Changed { address },
            EarlyStop::Loop { address },
            EarlyStop::TooLong { limit: 4096 },
            EarlyStop::NoRoom { rows: 8192 },
        ]
        .map(|stop| stop.to_string());
        let expected = [
            "unreadable at 0xffff888000001000",
            "changed at 0xffff888000001000",
            "loop at 0xffff888000001000",
            "longer than 4096",
            "no room among 8192",
        ];
        assert_eq!(texts, expected);
    }
}
