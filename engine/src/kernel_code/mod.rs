//! Integrity of a kernel's code: what leads into the kernel, what is executable, and whether code
//! is what it was.
//!
//! [`KernelCode`] works in rounds, in slices between scans: [`steps`] look at one structure after
//! the other. What violates a [`Check`] in two rounds is reported ([`violations`]). A round knows
//! the owners of all executable memory ([`owners`]).
//!
//! Not here: the modules themselves ([`crate::walk`]), and the words of records
//! ([`crate::policy`]).
//!
//! Start reading at [`KernelCode::work`].

mod baseline;
mod check;
mod context;
mod marks;
mod names;
mod owners;
mod round;
mod sensitive;
mod steps;
mod symbols;
mod violations;

pub use check::{Check, CheckFacts, ViolationKind};
pub use names::{CodeNames, SymbolText};
pub use owners::{CodeRange, Owner, Owners};
pub use round::{CodeBuffers, KernelCode, RoundFacts};
pub use sensitive::{is_sensitive, is_sensitive_table, listing_of};
pub use symbols::symbol_at;
pub(crate) use violations::VIOLATIONS_MAX;
pub use violations::{CodeBytes, ConfirmedViolation, Violation};
