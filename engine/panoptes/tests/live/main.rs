//! `panoptes watch` beside real kernels: what happens there is reported, once, and nothing else is.
//!
//! The program runs as users run it, on the memory file of a guest; what it says is held to laws that
//! every run must keep ([`laws`]) and to what was done inside the guest.
//!
//! Start reading at [`watcher`].

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

mod acts;
mod attestation;
mod barrier;
mod containers;
mod ends;
mod guests;
mod hidden;
mod inside;
mod kernel;
mod laws;
mod limits;
mod measures;
mod module;
mod profiles;
mod record;
mod restores;
mod reverse_shell;
mod shells;
mod storm;
mod systems;
mod tour;
mod watcher;
