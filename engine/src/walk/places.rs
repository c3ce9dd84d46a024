//! The tables of what files lead to: their rows lead to each other.

use panoptes_decoders::address::KernelVa;

use super::losses::WalkedStructure;
use super::snapshot::{
    CgroupRow, CssSetRow, CssStateRow, DentryRow, Index, InodeRow, KernfsRow, MountRow, Rows,
    SuperBlockRow,
};
use super::tables::Snapshot;

/// Defines what depends on the tables, each with its rows and the address of a row's object.
macro_rules! place_tables {
    ($count:literal: $($table:ident => $place:ident($row:ident), $address:expr;)*) => {
        /// A row of one of the tables.
        #[derive(Clone, Copy, Debug)]
        pub(super) enum SnapshotRow {
            $($place(Index<$row>),)*
        }

        /// Number of rows of each table.
        pub(super) type PlaceCounts = [usize; $count];

        /// Lists the new rows of each table, with the addresses of their objects. `listed` has how
        /// many of each were listed before.
        pub(super) fn list_places(
            snapshot: &Snapshot,
            listed: &mut PlaceCounts,
            places: &mut Vec<(SnapshotRow, KernelVa)>,
        ) {
            let [$($table,)*] = listed;
            places.clear();
            $(list_rows(&snapshot.$table, $table, places, SnapshotRow::$place, $address);)*
        }

        /// Number of rows of each table that [`list_places`] lists.
        pub(super) fn count_places(snapshot: &Snapshot) -> PlaceCounts {
            [$(snapshot.$table.len(),)*]
        }
    };
}

place_tables! {
    8:
    dentries => Dentry(DentryRow), |row| row.name.address;
    mounts => Mount(MountRow), |row| row.address;
    inodes => Inode(InodeRow), |row| row.address;
    super_blocks => SuperBlock(SuperBlockRow), |row| row.address;
    css_sets => CssSet(CssSetRow), |row| row.address;
    css_states => CssState(CssStateRow), |row| row.address;
    cgroups => Cgroup(CgroupRow), |row| row.address;
    kernfs_nodes => KernfsNode(KernfsRow), |row| row.address;
}

impl SnapshotRow {
    /// The structure that such a row is of.
    pub(super) const fn structure(self) -> WalkedStructure {
        match self {
            Self::Dentry(_) => WalkedStructure::Dentry,
            Self::Mount(_) => WalkedStructure::Mount,
            Self::Inode(_) => WalkedStructure::Inode,
            Self::SuperBlock(_) => WalkedStructure::SuperBlock,
            Self::CssSet(_) | Self::CssState(_) | Self::Cgroup(_) | Self::KernfsNode(_) => {
                WalkedStructure::GroupStructure
            }
        }
    }
}

/// Lists the rows of a table that are new since `listed` of them were listed.
fn list_rows<Row>(
    rows: &Rows<Row>,
    listed: &mut usize,
    places: &mut Vec<(SnapshotRow, KernelVa)>,
    place: impl Fn(Index<Row>) -> SnapshotRow,
    address: impl Fn(&Row) -> KernelVa,
) {
    // What finds no room is listed next time.
    let new = rows.span_from(*listed).take(places.capacity() - places.len());
    let addresses = rows.range(new).iter().map(address);
    places.extend(new.indexes().map(place).zip(addresses));
    *listed += new.len();
}
