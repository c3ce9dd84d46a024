//! `reverse_shell_details` (guide §11.8): the chain of processes, each with its descriptors and
//! connections.

use super::file_descriptor::FileDescriptorDetails;
use super::macros::details;
use super::network_connection::NetworkConnectionDetails;
use super::process::ProcessDetails;
use super::value::{Flat, WrappedObjects};

details! {
    /// The processes that relay a connection to a shell.
    pub struct ReverseShellDetails<'a> "reverse_shell_details" {
        /// From the process that holds the connection to the shell.
        process_list: WrappedObjects<'a, ShellProcess<'a>>,
    }
}

details! {
    /// A process of the chain: `process_details` with two more lists.
    pub struct ShellProcess<'a> "process_details" {
        process: Flat<ProcessDetails<'a>>,
        /// The descriptors that the detection is based on.
        file_descriptor_list: WrappedObjects<'a, FileDescriptorDetails<'a>>,
        /// The connections that the detection is based on.
        network_connection_list: WrappedObjects<'a, NetworkConnectionDetails<'a>>,
    }
}
