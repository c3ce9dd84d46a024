//! `panoptes watch` with real kernels: it reports each activity once, and nothing else.
//!
//! The program runs as users run it, on the memory file of a guest. Its records are checked against
//! laws that hold for every run ([`laws`]), and against the acts inside the guest.
//!
//! Start reading at [`watcher`].

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

mod acts;
mod attestation;
mod barrier;
mod bpf;
#[path = "../../../records/tests/common/consumers.rs"]
mod consumers;
mod containers;
mod drop_in;
mod ends;
mod every_activity;
mod guests;
mod hidden;
mod inside;
mod integrity;
mod kernel;
mod laws;
mod limits;
mod measures;
mod module;
mod modules;
mod profiles;
mod record;
mod restores;
mod reverse_shell;
mod shells;
mod short_lives;
mod storm;
mod systems;
mod tour;
mod watcher;
mod wire;
