//! Pure functions from the bytes of a kernel to facts.
//!
//! What is here: types of addresses ([`address`]), the one trait by which memory is read ([`source`]),
//! page tables ([`paging`]), the `layout!` macro by which each decoder declares the fields that it needs
//! ([`layout`]), one file for each kernel structure ([`kernel`]), named as the kernel names it, and what programs
//! lay out themselves ([`user`]).
//!
//! What is not here: reading anything (the engine does that, in batches), remembering anything, or
//! knowing where a field lies in a given kernel (`panoptes-profiles` fills the layouts in).
//!
//! Start reading at [`layout`], then [`kernel::task_struct`].
//!
//! Every input is hostile: no function here panics, loops without a bound, or allocates. The crate is
//! `no_std` without `alloc` and forbids `unsafe`, so the compiler holds it to the last two.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod address;
pub mod container;
pub mod kernel;
pub mod layout;
pub mod paging;
pub mod source;
pub mod user;
