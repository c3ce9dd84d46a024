//! Each option and each signal of argus(8), compared with real argus where that can be.
//!
//! Both sensors run with the same option over the same packets, and `ra` reads the records of both.
//! Live tests have network namespaces of their own, so only root runs them; for others they pass
//! with a message.
#![allow(clippy::print_stderr, reason = "it prints what it leaves out")]

mod captures;
mod interfaces;
mod network;
mod programs;
mod records;
mod stream;
