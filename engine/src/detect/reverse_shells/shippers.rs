//! Programs that send the output of a shell on: what they send is the shell's only if nobody else
//! gives them anything. A shipper of logs has one connection for what all its clients write.

use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};

use super::Shells;
use super::direction::Direction;
use super::graph::{Edges, Object, object_of};
use super::search::Hop;
use super::shell::Shell;
use crate::walk::{DescriptorRow, FilesRow, Index, Snapshot};

impl Shells {
    /// Whether a program on the way of a shell's output gets something from others, too. A program
    /// that cannot be checked completely counts as such.
    pub(super) fn is_output_shared(&self, shell: &Shell<'_>, outward: Option<Index<Hop>>) -> bool {
        let snapshot = shell.snapshot;
        let mut relays = self.outward.path(outward).filter(|hop| hop.table != shell.table);
        relays.any(|hop| {
            let before = hop.parent.and_then(|at| self.outward.hops().get(at.position()));
            let places = self.graph.carriers_of(snapshot, hop.table, Edges::Usual);
            let mut rows =
                places.filter_map(|place| snapshot.descriptors.at(self.graph.carrier(place)));
            before.is_some_and(|before| {
                rows.any(|row| self.is_given_by_others(snapshot, row, hop, before))
            })
        })
    }

    /// Whether a descriptor of a program on the way brings what others write. `before` is the hop
    /// from which the shell's output comes.
    fn is_given_by_others(
        &self,
        snapshot: &Snapshot,
        row: &DescriptorRow,
        hop: &Hop,
        before: &Hop,
    ) -> bool {
        self.graph.spend(1);
        if self.graph.is_exhausted() {
            return true;
        }
        let inner =
            snapshot.descriptors.at(hop.inner).and_then(|row| object_of(snapshot, row.file));
        let mode = snapshot.files.at(row.file).map_or(0, |file| file.open.mode);
        let Some(object) = object_of(snapshot, row.file) else { return false };
        // A terminal as its standard output is open for reading, too.
        if mode & FMODE_READ == 0 || is_output(snapshot, hop.table, row) {
            return false;
        }
        match object {
            // A server that this machine asks is no client.
            Object::Connection(_) => {
                Some(object) != inner && self.direction_of(snapshot, object) != Direction::Outbound
            }
            Object::Pipe(_) | Object::Terminal(_) if Some(object) == inner => false,
            Object::Pipe(_) | Object::Terminal(_) | Object::Unix(_) => {
                let mut others = false;
                self.graph.other_end(snapshot, object, FMODE_WRITE, &mut |at| {
                    let table = self.graph.table_of(at);
                    others |= table != Some(hop.table) && table != Some(before.table);
                });
                others
            }
            _ => false,
        }
    }
}

/// Whether a descriptor leads to the same open file as a process's standard output or error.
fn is_output(snapshot: &Snapshot, table: Index<FilesRow>, row: &DescriptorRow) -> bool {
    let mut first = snapshot.descriptors_of(table).take_while(|row| row.index < 3);
    first.any(|it| it.index > 0 && it.file == row.file)
}
