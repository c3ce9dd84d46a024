//! The two ways of an interpreter's bytes: from its sources, and to its targets.

use super::candidates::is_dead_end;
use super::dead_ends::DeadEnd;
use super::graph::{Edges, SearchDirection};
use super::{ReverseShells, Shell};

impl ReverseShells {
    /// Follows the input of an interpreter back to its sources. Returns whether some of them may be
    /// beyond the limits of a search.
    pub(super) fn follow_back(&mut self, shell: &Shell<'_>, edges: Edges) -> bool {
        let (snapshot, [input, ..]) = (shell.snapshot, shell.stdio);
        // That of another interpreter.
        self.outward.begin_with(edges);
        let search = &mut self.inward;
        search.begin_with(edges);
        let start = search.begin_at(snapshot, &self.graph, shell.table, input);
        let known = start.and_then(|start| self.dead_ends.get(start, SearchDirection::Back, edges));
        if known.is_none() {
            search.run(snapshot, &self.graph);
        }
        let end = DeadEnd { is_cut: search.is_full(), met_files: search.met_files() };
        let DeadEnd { is_cut, met_files } = known.unwrap_or(end);
        search.meet_files(met_files);
        if let Some(start) = start
            && is_dead_end(search)
            && search.holds_for_all(&self.graph)
        {
            self.dead_ends.add(start, SearchDirection::Back, edges, DeadEnd { is_cut, met_files });
        }
        is_cut
    }

    /// Follows the output of an interpreter to its targets. Returns whether some of them may be
    /// beyond the limits of a search.
    pub(super) fn follow_on(&mut self, shell: &Shell<'_>, edges: Edges) -> bool {
        let (snapshot, [_, output, error]) = (shell.snapshot, shell.stdio);
        let search = &mut self.outward;
        search.begin_with(edges);
        let ends =
            [output, error].map(|end| search.begin_at(snapshot, &self.graph, shell.table, end));
        let starts = || ends.into_iter().flatten();
        let dead_ends = &self.dead_ends;
        let known = || starts().map(|start| dead_ends.get(start, SearchDirection::On, edges));
        let mut is_cut = known().flatten().any(|known| known.is_cut);
        let met_files = known().flatten().any(|known| known.met_files);
        if !known().all(|known| known.is_some()) {
            search.run(snapshot, &self.graph);
            is_cut |= search.is_full();
            if is_dead_end(search) && search.holds_for_all(&self.graph) {
                let end = DeadEnd { is_cut: search.is_full(), met_files: search.met_files() };
                starts()
                    .for_each(|start| self.dead_ends.add(start, SearchDirection::On, edges, end));
            }
        }
        let may_find_more = met_files || self.writes_to_relay(shell);
        self.outward.meet_files(may_find_more);
        is_cut
    }
}
