//! What is worth saying, and how: from facts to records and to lines of `panoptes scan`.
//!
//! Start reading at [`lines`] and [`describe`].

pub mod describe;
pub mod lines;
