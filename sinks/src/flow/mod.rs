//! Records of network flows, and the formats in which they leave.
//!
//! [`panoptes_records::flow::FlowRecord`] is what is known of one flow since its last record.
//! [`argus`] writes it as argus clients read it, [`json`] as a line, [`ipfix`] as messages to a
//! collector, [`parquet`] as columns. [`filter`] selects some of them, and [`community_id`] gives
//! the id of a flow in other tools. [`output`] has where records go.

pub mod argus;
mod column_type;
pub mod community_id;
pub mod filter;
pub mod ipfix;
pub mod json;
pub mod output;
pub mod parquet;
mod protocol;
