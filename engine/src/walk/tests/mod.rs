//! What tests of the rounds share.

pub(super) mod memory;
