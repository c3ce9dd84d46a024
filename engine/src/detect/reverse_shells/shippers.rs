//! Programs that send the output of a shell on: what they send is the shell's only if nobody else
//! gives them anything. A shipper of logs has one connection for what all its clients write.

use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};

use super::ReverseShells;
use super::direction::ConnectionDirection;
use super::graph::{ChannelEnd, Edges, object_of};
use super::search::Hop;
use super::shell::Shell;
use crate::walk::{DescriptorRow, FileRow, FilesRow, Index, Snapshot, SocketRow};

impl ReverseShells {
    /// Whether a program on the way of a shell's output gets something from others, too; `None` if
    /// no steps are left to check it completely.
    pub(super) fn is_output_shared(
        &self,
        shell: &Shell<'_>,
        outward: Option<Index<Hop>>,
    ) -> Option<bool> {
        let snapshot = shell.snapshot;
        let mut relays = self.outward.path(outward).filter(|hop| hop.table != shell.table);
        let is_shared = relays.any(|hop| {
            let before = hop.parent.and_then(|at| self.outward.hops().get(at.position()));
            let inner = hop.inner_object(snapshot);
            let places = self.graph.carriers_of(snapshot, hop.table, Edges::Usual);
            let places = places.take_while(|_| !self.graph.is_exhausted());
            let mut rows =
                places.filter_map(|place| snapshot.descriptors.at(self.graph.carrier(place)));
            before.is_some_and(|before| {
                rows.any(|row| self.is_given_by_others(snapshot, row, (hop, inner), before))
            })
        });
        (is_shared || !self.graph.is_exhausted()).then_some(is_shared)
    }

    /// Whether a descriptor of a program on the way brings what others write. `inner` is what that
    /// program gets the shell's output by, and `before` the hop from which that comes.
    fn is_given_by_others(
        &self,
        snapshot: &Snapshot,
        row: &DescriptorRow,
        (hop, inner): (&Hop, Option<ChannelEnd>),
        before: &Hop,
    ) -> bool {
        self.graph.spend(1);
        if self.graph.is_exhausted() {
            return false;
        }
        let mode = snapshot.files.at(row.file).map_or(0, |file| file.open.mode);
        let Some(object) = object_of(snapshot, row.file) else { return false };
        // A terminal as its standard output is open for reading, too.
        if mode & FMODE_READ == 0 || is_output(snapshot, hop.table, row) {
            return false;
        }
        match object {
            // A server that this machine asks is no client.
            ChannelEnd::Connection(_) => {
                Some(object) != inner
                    && self.direction_of(snapshot, object) != ConnectionDirection::Outbound
            }
            ChannelEnd::Pipe(_) | ChannelEnd::Terminal(_) if Some(object) == inner => false,
            // What the shell's own children inherit is its output. A server's socket has no peer.
            ChannelEnd::Unix(at) if Some(object) == inner && has_peer(snapshot, at) => false,
            ChannelEnd::Pipe(_) | ChannelEnd::Terminal(_) | ChannelEnd::Unix(_) => {
                let silent = silent_peer(snapshot, object);
                let mut others = false;
                self.graph.other_end(snapshot, object, FMODE_WRITE, &mut |at| {
                    let table = self.graph.table_of(at);
                    let file = snapshot.descriptors.at(at).and_then(|row| row.file);
                    let is_silent = silent.is_some() && file == silent;
                    others |= !is_silent && table != Some(hop.table) && table != Some(before.table);
                });
                others
            }
            _ => false,
        }
    }
}

fn has_peer(snapshot: &Snapshot, socket: Index<SocketRow>) -> bool {
    snapshot.sockets.at(socket).is_some_and(|row| row.peer.is_some())
}

/// The open file of a socket's peer that sends nothing back: a server's for datagrams, such as that
/// of `/dev/log`.
fn silent_peer(snapshot: &Snapshot, object: ChannelEnd) -> Option<Index<FileRow>> {
    let ChannelEnd::Unix(at) = object else { return None };
    let peer = snapshot.sockets.at(snapshot.sockets.at(at)?.peer)?;
    (peer.peer != Some(at)).then_some(peer.file)
}

/// Whether a descriptor leads to the same open file as a process's standard output or error.
fn is_output(snapshot: &Snapshot, table: Index<FilesRow>, row: &DescriptorRow) -> bool {
    let mut first = snapshot.descriptors_of(table).take_while(|row| row.index < 3);
    first.any(|it| it.index > 0 && it.file == row.file)
}
