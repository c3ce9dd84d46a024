//! Programs with many pseudoterminals, whose shells inherit their masters.
//!
//! A program that starts shell after shell passes to each the masters of those before, unless it
//! closes them. With `n` shells, each search then had `n²` ways to find nothing.
//!
//! The *owner* of a master is its oldest holder. A *member* of an owner holds nothing else that
//! carries bytes than masters and one terminal, whose master the owner has. If all holders of an
//! owner's masters are that owner and its members, only the owner counts as their holder.
//!
//! That changes no search's result. From a master, a search comes to its owner and to members. A
//! member does not pass bytes from one master to another, so it leads to its terminal only. From
//! there the search comes to holders of that terminal's master, which again are the owner and
//! members. So members lead to nothing but the owner, to which the first master leads with fewer
//! steps. One search would not continue from the master to its owner: that which comes from the
//! owner, over the master's own terminal. So masters of which the owner holds the terminal too are
//! left as they are.

use panoptes_tables::room;

use super::lists::{linked, reset};
use super::{ChannelEnd, Edges, Graph, is_master};
use crate::walk::{FilesRow, Index, Snapshot, TERMINALS_MAX, TerminalRow};

/// Owners of masters, and their members, in one scan.
#[derive(Debug, Default)]
pub(super) struct Terminals {
    /// The owner of each terminal that is a master.
    owners: Vec<Option<Index<FilesRow>>>,
    members: Vec<Membership>,
    /// Whether others than an owner and its members hold its masters, one entry a table.
    has_others: Vec<bool>,
}

/// Whether a table is a member.
#[derive(Clone, Copy, Debug)]
enum Membership {
    Unknown,
    /// A member of no owner.
    None,
    Of(Index<FilesRow>),
}

impl Terminals {
    pub(super) fn new(tables: usize) -> Self {
        Self {
            owners: room::list(TERMINALS_MAX),
            members: room::list(tables),
            has_others: room::list(tables),
        }
    }

    fn reset(&mut self, terminals: usize, tables: usize) {
        reset(&mut self.owners, terminals);
        self.members.clear();
        self.members.resize(tables.min(self.members.capacity()), Membership::Unknown);
        self.has_others.clear();
        self.has_others.resize(tables.min(self.has_others.capacity()), false);
    }
}

impl Graph {
    /// Leaves out masters that members of their owner have inherited.
    pub(super) fn leave_out_inherited(&mut self, snapshot: &Snapshot) {
        let masters = || {
            let all = snapshot.terminals.indexed();
            all.filter(|(_, row)| row.is_master).map(|(master, _)| master)
        };
        if !masters().any(|master| self.holders_of(master).nth(1).is_some()) {
            return;
        }
        let mut terminals = core::mem::take(&mut self.terminals);
        terminals.reset(snapshot.terminals.len(), snapshot.files_structs.len());
        for master in masters() {
            if let Some(place) = terminals.owners.get_mut(master.position()) {
                let holders = self.holders_of(master);
                *place = holders.min_by_key(|&table| self.processes_of(table).next());
            }
        }
        for master in masters() {
            let Some(owner) = linked(&terminals.owners, master) else { continue };
            for table in self.holders_of(master).filter(|&table| table != owner) {
                let Some(known) = terminals.members.get_mut(table.position()) else { continue };
                if matches!(known, Membership::Unknown) {
                    *known = self.membership_of(snapshot, &terminals.owners, table);
                }
                let is_member = matches!(*known, Membership::Of(of) if of == owner);
                if !is_member && let Some(has) = terminals.has_others.get_mut(owner.position()) {
                    *has = true;
                }
            }
        }
        for master in masters() {
            if let Some(owner) = linked(&terminals.owners, master)
                && terminals.has_others.get(owner.position()) == Some(&false)
            {
                self.leave_to_owner(snapshot, master, owner);
            }
        }
        self.terminals = terminals;
    }

    /// Leaves out all holders of a master but its owner, unless that holds its terminal too.
    fn leave_to_owner(
        &mut self,
        snapshot: &Snapshot,
        master: Index<TerminalRow>,
        owner: Index<FilesRow>,
    ) {
        let end = snapshot.terminals.at(master).and_then(|row| row.link);
        if end.is_some_and(|end| self.holders_of(end).any(|table| table == owner)) {
            return;
        }
        let mut files = self.files.of(self.first_terminal + master.position());
        let (Some(file), None) = (files.next(), files.next()) else { return };
        drop(files);
        let mut all = self.descriptors.of(file.position());
        let own = all.find(|&at| self.table_of(at) == Some(owner));
        drop(all);
        if let Some(own) = own {
            self.descriptors.keep_only(file.position(), own);
        }
    }

    /// The tables that hold an end of a pseudoterminal, one for each of its open files.
    fn holders_of(&self, end: Index<TerminalRow>) -> impl Iterator<Item = Index<FilesRow>> + '_ {
        let files = self.files.of(self.first_terminal + end.position());
        let descriptors = files.flat_map(|file| self.descriptors.of(file.position()));
        descriptors.filter_map(|at| self.table_of(at))
    }

    /// The owner of which a table is a member.
    fn membership_of(
        &self,
        snapshot: &Snapshot,
        owners: &[Option<Index<FilesRow>>],
        table: Index<FilesRow>,
    ) -> Membership {
        let mut only = None;
        for row in snapshot.descriptors_of(table) {
            match self.object_of(snapshot, row.file, Edges::WithFiles) {
                None => {}
                Some(object) if is_master(snapshot, object) => {}
                Some(ChannelEnd::Terminal(end)) if only.is_none_or(|other| other == end) => {
                    only = Some(end);
                }
                Some(_) => return Membership::None,
            }
        }
        let master = only.and_then(|end| snapshot.terminals.at(end)).and_then(|row| row.link);
        match master.and_then(|master| linked(owners, master)) {
            Some(owner) if owner != table => Membership::Of(owner),
            _ => Membership::None,
        }
    }
}
