//! `workload_information`: the machine that a record is about, written into the header when it
//! changes.

use arrayvec::ArrayVec;
use panoptes_records::json::text::Text;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::value::{IndexedObjects, Uuid};
use panoptes_records::record::workload::Workload;
use panoptes_tables::room;

use super::MachineIdentity;
use crate::policy::describe;
use crate::walk::{HostName, InterfaceRow, Machine, Snapshot};

/// Maximum number of interfaces in a record.
const INTERFACES_MAX: usize = 32;

/// Known facts of a machine, for the header of its records.
#[derive(Debug, Default)]
pub struct KnownMachine {
    identity: MachineIdentity,
    /// Empty if it is not known.
    hostname: HostName,
    /// Zeros if it is not known.
    boot_id: [u8; 16],
    interfaces: Vec<InterfaceRow>,
    /// Whether a scan has read the interfaces.
    has_interfaces: bool,
    /// Whether the header of the machine's scans is up to date.
    written: bool,
    /// How often a scan has shown a change.
    changes: u64,
}

impl KnownMachine {
    pub(super) fn new(identity: MachineIdentity) -> Self {
        Self { identity, interfaces: room::list(INTERFACES_MAX), ..Self::default() }
    }

    /// Copies what is known now, with room for what will be known.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut copy = Self::new(self.identity.clone());
        copy.update_from(self);
        copy
    }

    /// Takes over what is known of the same machine. Allocates nothing.
    pub fn update_from(&mut self, other: &Self) {
        if self.identity != other.identity {
            self.identity.clone_from(&other.identity);
        }
        self.note(&other.hostname, other.boot_id);
        self.interfaces.clear();
        self.interfaces.extend(other.interfaces.iter().cloned());
        (self.has_interfaces, self.changes) = (other.has_interfaces, other.changes);
    }

    /// How often a scan has shown a change.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn set_boot_uuid(&mut self, boot_uuid: [u8; 16]) {
        self.identity.boot_uuid = boot_uuid;
        self.written = false;
    }

    pub(super) fn boot_uuid(&self) -> [u8; 16] {
        self.identity.boot_uuid
    }

    /// Notes what a first look has shown, which reads no interfaces.
    pub(super) fn note_first(&mut self, machine: &Machine) {
        self.note(&machine.hostname, machine.boot_id);
    }

    fn note(&mut self, hostname: &HostName, boot_id: [u8; 16]) {
        self.hostname.clone_from(hostname);
        self.boot_id = boot_id;
    }

    /// Updates the header from a scan.
    pub(super) fn update(&mut self, snapshot: &Snapshot, header: &mut RecordHeader) {
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
        self.note(&machine.hostname, machine.boot_id);
        self.interfaces.clear();
        self.interfaces.extend(own().cloned());
        self.has_interfaces = true;
        self.changes += 1;
        self.write(header);
        self.written = true;
    }

    /// Writes it into the header of records about the machine.
    pub fn write(&self, header: &mut RecordHeader) {
        let described: ArrayVec<_, INTERFACES_MAX> =
            self.interfaces.iter().map(describe::interface).collect();
        let MachineIdentity { name, os_version, boot_uuid } = &self.identity;
        let id = |id: [u8; 16]| (id != [0; 16]).then_some(Uuid(id));
        header.set_workload(&Workload {
            unique_identifier: Some(name.as_str().into()),
            os_version: (!os_version.is_empty()).then(|| os_version.as_str().into()),
            boot_uuid: id(*boot_uuid),
            kernel_boot_id: id(self.boot_id),
            hostname: (!self.hostname.is_empty()).then(|| Text::new(&self.hostname)),
            workload_networking_interfaces: self
                .has_interfaces
                .then_some(IndexedObjects(&described)),
        });
    }
}
