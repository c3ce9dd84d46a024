//! Addresses are types: an address that a guest supplies is only a claim until it is read.

use core::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// No address.
            pub const NULL: Self = Self(0);

            /// Whether this is the null address.
            pub const fn is_null(self) -> bool {
                self.0 == 0
            }

            /// This address plus `bytes`. The sum wraps, as on the machine; the read checks it.
            #[must_use]
            pub const fn plus(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// This address minus `bytes`, as in `container_of`.
            #[must_use]
            pub const fn minus(self, bytes: u64) -> Self {
                Self(self.0.wrapping_sub(bytes))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// A physical address of the watched machine, as its own memory controller sees it.
    PhysicalAddress
}
address! {
    /// A virtual address that something in the guest claims to be kernel memory.
    KernelVa
}
address! {
    /// A virtual address in a process of the guest, meaningless without the process's page tables.
    UserVa
}

impl KernelVa {
    /// Whether the address is in the upper half, as every kernel address of x86-64 and arm64 is
    /// (Documentation/arch/x86/x86_64/mm.rst, Documentation/arch/arm64/memory.rst), and not in the
    /// last page, which `ERR_PTR` uses for errors (include/linux/err.h).
    pub const fn is_plausible(self) -> bool {
        self.0 >> 63 == 1 && self.0 < 0xffff_ffff_ffff_f000
    }
}
