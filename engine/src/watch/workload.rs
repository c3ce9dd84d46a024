//! `workload_information`: the machine that a record is about, written into the header when it
//! changes.

use arrayvec::ArrayVec;
use panoptes_sinks::json::text::Text;
use panoptes_sinks::record::header::Header;
use panoptes_sinks::record::value::{Numbered, Uuid};
use panoptes_sinks::record::workload::Workload;
use panoptes_tables::room;

use super::Identity;
use crate::policy::describe;
use crate::walk::{HostName, InterfaceRow, Snapshot};

/// Maximum number of interfaces in a record.
const INTERFACES_MAX: usize = 32;

/// The facts about a machine that its records' header has.
#[derive(Debug)]
pub(super) struct WorkloadTracker {
    identity: Identity,
    hostname: HostName,
    boot_id: [u8; 16],
    interfaces: Vec<InterfaceRow>,
    /// Whether the header is up to date.
    written: bool,
}

impl WorkloadTracker {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            hostname: HostName::new(),
            boot_id: [0; 16],
            interfaces: room::list(INTERFACES_MAX),
            written: false,
        }
    }

    pub(super) fn set_boot_uuid(&mut self, boot_uuid: [u8; 16]) {
        self.identity.boot_uuid = boot_uuid;
        self.written = false;
    }

    pub(super) fn boot_uuid(&self) -> [u8; 16] {
        self.identity.boot_uuid
    }

    /// Updates the header from a scan.
    pub(super) fn update(&mut self, snapshot: &Snapshot, header: &mut Header) {
        // Interfaces of the initial network namespace: those of containers are not the machine's.
        let namespace = snapshot.nets.first().map_or(0, |net| net.inum);
        let own = || {
            snapshot
                .interfaces
                .iter()
                .filter(|row| row.network_namespace == namespace)
                .take(INTERFACES_MAX)
        };
        let machine = &snapshot.machine;
        let same = self.written
            && self.hostname == machine.hostname
            && self.boot_id == machine.boot_id
            && own().eq(self.interfaces.iter());
        if same {
            return;
        }
        self.hostname.clone_from(&machine.hostname);
        self.boot_id = machine.boot_id;
        self.interfaces.clear();
        self.interfaces.extend(own().cloned());
        self.write(header);
        self.written = true;
    }

    fn write(&self, header: &mut Header) {
        let described: ArrayVec<_, INTERFACES_MAX> =
            self.interfaces.iter().map(describe::interface).collect();
        let is_known = |id: &[u8; 16]| *id != [0; 16];
        header.set_workload(&Workload {
            unique_identifier: Some(self.identity.name.as_str().into()),
            os_version: Some(self.identity.os_version.as_str().into()),
            boot_uuid: is_known(&self.identity.boot_uuid).then_some(Uuid(self.identity.boot_uuid)),
            kernel_boot_id: is_known(&self.boot_id).then_some(Uuid(self.boot_id)),
            hostname: (!self.hostname.is_empty()).then(|| Text::new(&self.hostname)),
            workload_networking_interfaces: Some(Numbered(&described)),
        });
    }
}
