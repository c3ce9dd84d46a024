//! Decides what to report, and in which form: from facts to records and to lines of `panoptes
//! scan`.
//!
//! Activities and attributes are those of the guide: NVIDIA's *DOCA Argus Service Guide*
//! (`docs/compatibility.md`, "The guide").
//!
//! [`describe`] fills the details objects of both. [`lines`] prints a snapshot. [`reporter`] turns
//! changes into records, as [`config`] allows. The findings of each detector have a module with
//! that detector's name, and `evidence` has the reason of an alert. `writing` writes each record:
//! `causes` and `repetitions` count alerts that say the same once more,
//! `incidents` ties those of one act together, `ancestors` lists where a process came from, and
//! [`exceptions`] are the alerts that are not written.
//!
//! Nothing is missed silently: `undelivered` keeps urgent records for which the queue is full,
//! `floods` counts the events of each process, [`gaps`] tracks what is not seen, and `missed`
//! reports both. `intervals` measures the time between scans.

mod alert_floods;
mod ancestors;
mod binary_attestation;
mod causes;
mod clock;
pub mod config;
mod connections;
mod containers;
pub mod describe;
mod evidence;
pub mod exceptions;
mod file_content;
mod file_permissions;
mod floods;
pub mod gaps;
mod hidden;
mod hidden_connections;
mod incidents;
mod intervals;
mod last_contents;
pub mod lines;
mod loss_rate;
mod loss_records;
mod memory_permissions;
mod packages;
mod path_change;
mod process_executed;
mod repetitions;
pub mod reporter;
mod retry_queue;
mod reverse_shells;
mod shell_history;
mod subject_names;
mod suppressed_beginnings;
mod techniques;
#[cfg(test)]
mod tests;
mod writing;

pub use clock::{ClockTampering, SetBack};
pub use config::PolicyConfig;
pub use writing::{Policy, Reporter};
