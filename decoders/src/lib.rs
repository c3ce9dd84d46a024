//! Empty for now.
#![no_std]
#![forbid(unsafe_code)]
