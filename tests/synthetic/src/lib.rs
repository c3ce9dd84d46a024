//! A synthetic machine: the kernel's structures, laid out in memory to any size.
//!
//! For: tests that need a machine of a certain size or content, or one that changes at a certain
//! read. A [`Machine`] has the kernel of one of the profiles in `profiles/tables` (x86-64). Its
//! structures are where that kernel has them, and Panoptes discovers and walks it like a guest.
//! Operations such as [`Machine::fork`] change it in the order of the kernel's own stores. A
//! [`Source`] reads it, counts, and calls a hook that may change it before each read.
//!
//! Not for: what the structures do in a real kernel. The rig compares scans with guests.
//!
//! ```
//! use panoptes_synthetic::{Machine, Size, Source, profile};
//!
//! let size = Size { processes: 3, ..Size::default() };
//! let mut machine = Machine::builder(&profile("6.1.0-50-amd64")).size(size).build();
//! let pid = machine.fork(1);
//! machine.exec(pid, "/usr/bin/nc", &["nc", "-l"]);
//! let source = Source::with_hook(&mut machine, |machine, _, counts| {
//!     if counts.pieces == 100 {
//!         machine.kill(pid);
//!     }
//! });
//! assert_eq!(source.counts().batches, 0);
//! ```
//!
//! Start reading at [`Machine`] and `build.rs`.
#![forbid(unsafe_code)]

mod areas;
mod bpf;
mod build;
mod calls;
mod clock;
mod descriptors;
mod exec;
mod exit;
mod idr;
mod isf;
mod kernel;
mod links;
mod machine;
mod memory;
mod mirror;
mod module_tree;
mod modules;
mod namespaces;
mod networks;
mod page_cache;
mod page_tables;
mod paths;
mod pids;
mod processes;
mod random;
mod scheduler;
mod sockets;
mod source;
mod stores;
mod trees;

pub use areas::{Area, permissions};
pub use build::{Builder, Size};
pub use descriptors::Pipe;
pub use kernel::profile;
pub use machine::Machine;
pub use memory::Memory;
pub use modules::{HideModule, Module, ModuleChange};
pub use namespaces::Container;
pub use page_tables::DirectMapPages;
pub use processes::{ForkOptions, Process, Thread};
pub use random::Random;
pub use sockets::{Socket, Waiting};
pub use source::{Counts, Hook, Source, When};
