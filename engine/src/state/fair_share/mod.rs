//! The division of tables among those who fill them, by max-min fairness.
//!
//! An owner that wants less than an equal part gets all that it wants. The others divide the rest.

pub(super) mod connections;
pub(super) mod names;
pub(super) mod processes;
pub(super) mod rows;
