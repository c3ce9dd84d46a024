//! `container_details` (guide §10.8; the guide lists no attributes for it).

use crate::json::text::Text;

use super::macros::details;
use super::value::Namespace;

details! {
    /// A container.
    pub struct ContainerDetails<'a> "container_details" {
        /// The 64-hex id, or the runtime's name for it.
        container_id: Text<'a>,
        /// Which runtime made it.
        container_runtime: Option<Text<'a>>,
        container_cgroup_path: Option<Text<'a>>,
        /// `pid:[…]`
        container_pid_namespace: Option<Namespace>,
        /// `mnt:[…]`
        container_mount_points_namespace: Option<Namespace>,
        /// `net:[…]`
        container_network_namespace: Option<Namespace>,
        /// The tgid of its first process.
        container_first_process_id: Option<u32>,
        /// Id or name of the enclosing container.
        container_parent_id: Option<Text<'a>>,
        /// Only if the container has a host name of its own: a pod's host name is the pod's name.
        container_hostname: Option<Text<'a>>,
        container_pod_uid: Option<Text<'a>>,
    }
}
