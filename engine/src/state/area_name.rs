//! Names of areas without a file, as /proc/PID/maps shows them.

use crate::walk::{MmRow, NameKind, Snapshot, VmaRow};

/// Whether an area that only touches the heap is also called `[heap]`.
///
/// `show_map_vma` (fs/proc/task_mmu.c) did so up to v6.5. Later kernels use `vma_is_initial_heap`
/// (include/linux/mm.h), which requires an overlap.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HeapRule {
    /// They must overlap.
    #[default]
    Overlaps,
    /// Touching is enough.
    Touches,
}

const AREA_NAME_BYTES: usize = 96;

/// Buffer for the longest name of an area without a file: `[anon:…]` around 80 bytes.
#[derive(Debug)]
pub(super) struct AreaName([u8; AREA_NAME_BYTES]);

impl Default for AreaName {
    fn default() -> Self {
        Self([0; AREA_NAME_BYTES])
    }
}

impl AreaName {
    /// Names an area without a file.
    pub(super) fn write(
        &mut self,
        snapshot: &Snapshot,
        mm: &MmRow,
        area: &VmaRow,
        heap: HeapRule,
    ) -> Option<&[u8]> {
        let own = snapshot.names.at(area.name);
        if let Some(name) = own.filter(|name| name.kind == NameKind::SpecialMapping)
            && !name.text().is_empty()
        {
            return self.set(&[name.text()]);
        }
        let vma = &area.vma;
        let in_heap = match heap {
            HeapRule::Overlaps => vma.start < mm.heap.end && vma.end > mm.heap.start,
            HeapRule::Touches => vma.start <= mm.heap.end && vma.end >= mm.heap.start,
        };
        if in_heap {
            return Some(b"[heap]");
        }
        // `is_stack` (fs/proc/task_mmu.c), `vma_is_initial_stack` (include/linux/mm.h).
        if vma.start <= mm.start_stack && vma.end >= mm.start_stack {
            return Some(b"[stack]");
        }
        let own = own.filter(|name| name.kind == NameKind::AnonVma && name.was_read)?;
        self.set(&[b"[anon:", own.text(), b"]"])
    }

    /// Names an area of shared anonymous memory, which has a file, if its process named it.
    pub(super) fn write_shared(&mut self, snapshot: &Snapshot, area: &VmaRow) -> Option<&[u8]> {
        let name = snapshot.names.at(area.name)?.text();
        if name.is_empty() {
            return None;
        }
        self.set(&[b"[anon_shmem:", name, b"]"])
    }

    fn set(&mut self, pieces: &[&[u8]]) -> Option<&[u8]> {
        let mut length = 0;
        for piece in pieces {
            let Some(room) = self.0.get_mut(length..length + piece.len()) else { break };
            room.copy_from_slice(piece);
            length += piece.len();
        }
        self.0.get(..length)
    }
}
