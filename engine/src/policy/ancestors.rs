//! The ancestors of a process, for alerts: up to the login or the service that it came from.

use core::ops::Range;

use arrayvec::ArrayVec;
use panoptes_records::json::text::Text;
use panoptes_records::record::detection::Ancestor;
use panoptes_tables::room;

use crate::path::{PathBuffer, write_file_name};
use crate::walk::{ProcessRow, Snapshot};

/// Maximum number of ancestors in a record.
const ANCESTORS_MAX: usize = 16;
/// Room for all their paths, in bytes.
const PATHS_BYTES: usize = 8 * 1024;

/// Buffers for the ancestors' paths.
#[derive(Debug)]
pub(super) struct Ancestors {
    path: PathBuffer,
    paths: Vec<u8>,
}

impl Ancestors {
    pub(super) fn new() -> Self {
        Self { path: PathBuffer::default(), paths: room::list(PATHS_BYTES) }
    }

    /// The process with this id, its parent and so on up to the child of process 1, and whether
    /// there are more.
    pub(super) fn of<'a>(
        &'a mut self,
        snapshot: &'a Snapshot,
        first: u32,
    ) -> (ArrayVec<Ancestor<'a>, ANCESTORS_MAX>, bool) {
        self.paths.clear();
        let mut rows = ArrayVec::<(&ProcessRow, Option<Range<usize>>), ANCESTORS_MAX>::new();
        let mut next = first;
        while next > 1 && !rows.is_full() {
            let Some(process) = snapshot.process_by_pid(next) else { break };
            let path = self.add_path(snapshot, process);
            rows.push((process, path));
            next = process.parent_pid;
        }
        let is_cut = next > 1 && rows.is_full();
        let paths = &self.paths;
        let describe = |(process, path): (&'a ProcessRow, Option<Range<usize>>)| {
            let task = &snapshot.leader(process)?.task;
            Some(Ancestor {
                process_id: task.tgid,
                process_name: Text::new(task.name()),
                process_executable_path: path.map(|path| Text::new(&paths[path])),
                process_real_user_id: process.ids.map(|ids| ids.uid),
            })
        };
        (rows.into_iter().filter_map(describe).collect(), is_cut)
    }

    /// Adds the path of a process's executable, if it is known and there is room.
    fn add_path(&mut self, snapshot: &Snapshot, process: &ProcessRow) -> Option<Range<usize>> {
        let mm = snapshot.mms.at(process.mm)?;
        let file = snapshot.files.at(mm.exe_file)?;
        write_file_name(snapshot, file, &mut self.path).ok()?;
        let (start, path) = (self.paths.len(), self.path.text());
        if path.len() > self.paths.capacity() - start {
            return None;
        }
        self.paths.extend_from_slice(path);
        Some(start..self.paths.len())
    }
}
