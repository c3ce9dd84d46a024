//! What was there before: tables of everything that is tracked, and the differences between scans.
//!
//! Start reading at [`facts`].

mod chains;
pub mod facts;
pub mod holders;
mod index;
pub mod strings;
pub mod table;
