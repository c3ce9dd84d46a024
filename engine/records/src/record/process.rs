//! `process_details` (guide §11.1).

use crate::json::command_line::CommandLine;
use crate::json::text::Text;
use crate::json::time::Timestamp;
use crate::words::words;

use super::macros::details;
use super::value::{Hash, Namespace};

details! {
    /// A process: its ids, times, program and state.
    pub struct ProcessDetails<'a> "process_details" {
        /// `comm`, without brackets.
        process_name: Text<'a>,
        /// The tgid.
        process_id: u32,
        /// Grows with every exec.
        process_self_exec_id: Option<u64>,
        /// SHA-256 of the executable.
        process_hash_sha256: Option<Hash<32>>,
        /// SHA-1 of the executable.
        process_hash_sha1: Option<Hash<20>>,
        /// MD5 of the executable.
        process_hash_md5: Option<Hash<16>>,
        /// Size of the executable.
        process_file_size_bytes: Option<u64>,
        /// Absolute path, with ` (deleted)` as /proc has it.
        process_executable_path: Option<Text<'a>>,
        /// Absolute path of the present working directory.
        process_current_working_directory: Option<Text<'a>>,
        /// The arguments, joined by blanks; the list has them one by one.
        process_command_line_arguments: Option<CommandLine<'a>>,
        /// When it was forked, by the watched machine's clock.
        process_creation_time_iso_8601_ns: Option<Timestamp>,
        /// The tgid of the real parent.
        process_parent_process_id: Option<u32>,
        /// Real uid, in the first user namespace.
        process_real_user_id: Option<u32>,
        /// Real gid.
        process_real_group_id: Option<u32>,
        /// Effective uid.
        process_effective_user_id: Option<u32>,
        /// Effective gid.
        process_effective_group_id: Option<u32>,
        /// Uid of the login that the process belongs to, in the first user namespace, as
        /// /proc/PID/loginuid; it survives `su` and `sudo`. Left out without a login.
        process_login_user_id: Option<u32>,
        /// Number of that login since boot, as /proc/PID/sessionid.
        process_audit_session_id: Option<u32>,
        /// As `State:` in /proc/PID/status.
        process_state: Option<ProcessState>,
        /// CPU time times the clock rate; left out if the rate is unknown.
        process_cpu_clock_cycles: Option<u64>,
        /// CPU time; an addition to the cycles of DOCA Argus.
        process_cpu_time_ns: Option<u64>,
        /// `pid:[…]`
        process_pid_namespace: Option<Namespace>,
        /// `mnt:[…]`
        process_mount_points_namespace: Option<Namespace>,
        /// `net:[…]`
        process_network_namespace: Option<Namespace>,
        /// The 64-hex id, or the runtime's name for the container.
        process_container_id: Option<Text<'a>>,
        /// Whether it began while contact with the system was lost; left out if not.
        process_began_while_not_watched: Option<bool>,
        /// Whether it was found only after its end, in memory that the kernel had not used again;
        /// left out if not.
        process_recovered: Option<bool>,
    }
}

words! {
    /// The state of a process, in the words of /proc/PID/status.
    pub enum ProcessState {
        Running = "R (running)",
        Sleeping = "S (sleeping)",
        DiskSleep = "D (disk sleep)",
        Stopped = "T (stopped)",
        TracingStop = "t (tracing stop)",
        Dead = "X (dead)",
        Zombie = "Z (zombie)",
        Parked = "P (parked)",
        Idle = "I (idle)",
    }
}
