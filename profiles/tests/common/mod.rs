//! Inputs for the tests of the whole crate.
#![allow(dead_code, missing_docs, reason = "each test uses its own part")]

pub(crate) mod btf_writer;
pub(crate) mod guest;
pub(crate) mod kallsyms_writer;
pub(crate) mod raw_file;
pub(crate) mod types;
