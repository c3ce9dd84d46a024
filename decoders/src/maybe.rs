//! Numbers that may be missing, each in the room of a number: a value that never occurs stands for
//! none.
//!
//! For: decoded structures and rows of tables, of which there are many. An `Option` would make each
//! of them larger. Their order is that of the values.

use core::fmt;

macro_rules! maybe {
    ($($(#[$docs:meta])* $name:ident($number:ty) $none:expr;)+) => {$(
        $(#[$docs])*
        #[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
        #[repr(transparent)]
        pub struct $name($number);

        impl $name {
            /// No number.
            pub const NONE: Self = Self($none);

            /// A number, or none. The one that stands for none is none, too.
            pub const fn new(number: Option<$number>) -> Self {
                match number {
                    Some(number) => Self(number),
                    None => Self::NONE,
                }
            }

            /// The number, if there is one.
            pub const fn get(self) -> Option<$number> {
                if self.0 == $none { None } else { Some(self.0) }
            }

            /// This number; `other` if there is none.
            #[must_use]
            pub const fn or(self, other: Self) -> Self {
                if self.0 == $none { other } else { self }
            }
        }

        impl Default for $name {
            /// No number.
            fn default() -> Self {
                Self::NONE
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.get(), out)
            }
        }
    )+};
}

maybe! {
    /// A number below `u32::MAX`. Such are ids of users and processes: -1 is no user
    /// (`INVALID_UID`, include/linux/uidgid.h), and process ids end at 2^22 (`PID_MAX_LIMIT`).
    MaybeU32(u32) u32::MAX;
    /// A number below `u64::MAX`, such as a size or a time since boot.
    MaybeU64(u64) u64::MAX;
    /// A number above `i64::MIN`, such as a time since 1970.
    MaybeI64(i64) i64::MIN;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_stands_for_none() {
        for number in [None, Some(0), Some(7), Some(u32::MAX - 1)] {
            assert_eq!(MaybeU32::new(number).get(), number);
        }
        assert_eq!(MaybeU32::new(Some(u32::MAX)), MaybeU32::NONE);
        assert_eq!(MaybeU64::default().get(), None);
        assert_eq!(MaybeI64::new(Some(-1)).get(), Some(-1));
        assert_eq!(MaybeI64::NONE.or(MaybeI64::new(Some(3))).get(), Some(3));
        assert_eq!(MaybeU64::new(Some(1)).or(MaybeU64::new(Some(2))).get(), Some(1));
        assert_eq!(size_of::<MaybeU32>(), size_of::<u32>());
    }

    #[test]
    fn none_is_shown_as_none() {
        assert_eq!(
            std::format!("{:?} {:?}", MaybeU32::NONE, MaybeU32::new(Some(7))),
            "None Some(7)"
        );
    }
}
