//! `shell_history_details` (guide §11.7).

use crate::json::command_line::CommandText;
use crate::json::time::Timestamp;

use super::macros::details;
use super::value::Objects;

details! {
    /// Commands in a shell's history.
    pub struct ShellHistoryDetails<'a> "shell_history_details" {
        /// Oldest first.
        shell_command_execution_history: Objects<'a, ShellCommand<'a>>,
    }
}

details! {
    pub struct ShellCommand<'a> "shell_command" {
        /// Left out if the shell keeps no times.
        command_execution_time_iso_8601_ns: Option<Timestamp>,
        /// The command as typed.
        command_line: CommandText<'a>,
    }
}
