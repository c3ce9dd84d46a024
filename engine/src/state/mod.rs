//! What was there before: tables of everything that is tracked, and the differences between scans.
//!
//! Start reading at [`facts`].

pub mod facts;
pub mod holders;
