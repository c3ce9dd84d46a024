//! Pure functions that decode the bytes of a kernel.
//!
//! What is here: address types ([`address`]), the trait that reads memory ([`source`]), page tables
//! ([`paging`]), the `layout!` macro that declares the fields of a decoder ([`layout`]), one file
//! for each kernel structure ([`kernel`]), named as in the kernel, the data structures of user
//! programs ([`user`]), patterns and digits ([`text`]), network packets ([`packet`]), and flows
//! that routers export ([`netflow`]).
//!
//! For the flows of the network: the headers of packets ([`packet`]), and what the first data of a
//! connection says ([`application`]).
//!
//! What is not here: reading memory (the engine does that, in batches), state, and the offsets of
//! fields in a given kernel (`panoptes-profiles` fills the layouts in).
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
pub mod kernel;
pub mod layout;
pub mod netflow;
pub mod packet;
pub mod paging;
pub mod source;
pub mod text;
pub mod user;
