//! Changes of hand-made machines: [`world`] makes the machines, [`watch`] collects the changes.

mod bpf;
mod children;
mod connections;
mod containers;
mod crowded;
mod execs;
mod execs_held;
mod hidden;
mod lives;
mod measures;
mod model;
mod modules;
mod recovered;
mod shared_tables;
mod stop;
pub(crate) mod watch;
pub(crate) mod world;
