//! `workload_information`: the machine that a record is about, and the container in it.

use std::net::IpAddr;

use crate::json::text::Text;

use super::interface::WorkloadInterface;
use super::macros::details;
use super::value::{IndexedObjects, Uuid};

details! {
    /// The watched machine. A record about no machine has none of these fields.
    pub struct Workload<'a> "workload_information" {
        /// The system's name in the configuration, or its VUID.
        unique_identifier: Option<Text<'a>>,
        /// `Linux Kernel x.y`
        os_version: Option<Text<'a>>,
        /// Drawn by Panoptes: the same for the whole boot.
        boot_uuid: Option<Uuid>,
        /// The kernel's own; all zeros until something in the guest reads it.
        kernel_boot_id: Option<Uuid>,
        /// The first UTS namespace's node name.
        hostname: Option<Text<'a>>,
        /// Keyed "0", "1", …; with a compact header, only where they are new.
        workload_networking_interfaces: Option<IndexedObjects<'a, WorkloadInterface<'a>>>,
    }
}

details! {
    /// The container in which the activity happened.
    pub struct ContainerContext<'a> "container_context" {
        /// The 64-hex id, or the runtime's name for it.
        container_id: Option<Text<'a>>,
        /// The name given by the runtime or Kubernetes.
        container_name: Option<Text<'a>>,
        container_image_name: Option<Text<'a>>,
        container_image_digest: Option<Text<'a>>,
        pod_uid: Option<Text<'a>>,
        pod_name: Option<Text<'a>>,
        pod_ip_address: Option<IpAddr>,
        node_name: Option<Text<'a>>,
    }
}
