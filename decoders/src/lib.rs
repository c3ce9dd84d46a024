//! Pure functions from bytes to facts: of a machine's memory, and of network packets.
//!
//! For memory: address types ([`address`]), the trait that reads memory ([`source`]), page tables
//! ([`paging`]), the `layout!` macro that declares the fields of a decoder ([`layout`]), one file
//! for each kernel structure ([`kernel`]), named as in the kernel, reasons to stop before the end
//! of a list or tree ([`early_stop`]), control groups of containers ([`container`]), the data
//! structures of user programs ([`user`]), patterns and digits ([`text`]), instructions
//! ([`x86_code`]).
//!
//! For network flows: the headers of packets ([`packet`]), flows that routers export ([`netflow`]),
//! and what the first data of a connection says of TLS, HTTP, DNS and others ([`application`]).
//!
//! Not for: reading memory (the engine does that, in batches), state, and the offsets of fields in
//! a given kernel (`panoptes-profiles` fills the layouts in).
//!
//! Start reading at [`layout`], then [`kernel::task_struct`].
//!
//! Every input is hostile: no function here panics, loops without a bound, or allocates. The crate
//! is `no_std` without `alloc` and forbids `unsafe`, so the compiler enforces that nothing
//! allocates.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod address;
pub mod application;
pub mod container;
pub mod early_stop;
pub mod kernel;
pub mod layout;
pub mod maybe;
pub mod netflow;
pub mod packet;
pub mod paging;
pub mod source;
pub mod text;
pub mod user;
pub mod x86_code;
