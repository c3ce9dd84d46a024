//! Boots real kernels in QEMU and collects the truth about them from inside.
//!
//! A [`Guest`] is a Debian kernel with the rig's agent as init. The agent creates workloads and
//! reports, from the guest's own /proc, what a correct scan of its memory must print. The guest's
//! memory is a file on the host that the scanner under test reads.
//!
//! Not a part of the product: watching a system needs nothing of the agent.
//!
//! Start reading at [`guest`]; the agent is in `tests/agent`.
#![forbid(unsafe_code)]

mod agent;
pub mod boots;
pub mod boxes;
pub mod cache;
mod channel;
mod command;
pub mod compare;
pub mod contents;
pub mod cpio;
pub mod death;
pub mod disk;
pub mod dump;
mod emulation;
pub mod emulator;
pub mod error;
pub mod flavor;
pub mod gate;
pub mod guest;
pub mod headers;
pub mod hooks;
pub mod initramfs;
pub mod itself;
pub mod kernel;
pub mod kernel_module;
mod machine;
mod modules;
pub mod packages;
pub mod pairs;
pub mod product;
pub mod qmp;
mod random;
pub mod scenarios;
pub mod setup;
pub mod snapshot;
mod spawn;
pub mod standin;
pub mod story;
mod strangers;
pub mod systemd;
mod tools;
pub mod turn;
mod unpacked;
pub mod userland;

pub use command::{output, output_bytes};
pub use compare::{Report, Truth};
pub use disk::Disk;
pub use emulator::Emulator;
pub use error::{Error, Result};
pub use flavor::{Architecture, Build, Flavor, Series};
pub use guest::{Guest, GuestSpec};
pub use kernel::Kernel;
pub use machine::WIRE;
pub use random::Random;
pub use spawn::tied;
pub use strangers::build as strangers;
pub use tools::{arm64_programs, package, shellcheck, valgrind};
pub use userland::Userland;
