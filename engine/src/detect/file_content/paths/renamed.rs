//! Changes that wait, read again: whether their files are still there, and by which names.
//!
//! Many programs write a file beside another one, and rename it when it is complete. A sweep may
//! come to the first name only, and to the last one later. A rename moves the name itself
//! (`d_move`, fs/dcache.c), so it is read where it was found, and followed up to the root of
//! process 1.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::dentry::DirectoryEntry;
use panoptes_decoders::kernel::inode::Attributes;
use panoptes_decoders::kernel::super_block::Filesystem;
use panoptes_tables::Strings;

use super::super::rules::{ChangedFile, ContentRules};
use super::climb::{CLIMBS_AT_ONCE, Climb, climb};
use super::known::PathTarget;
use super::permissions::as_reported;
use super::{ANY_EXECUTE, Paths, PendingPathChange};
use crate::address::MemoryReader;
use crate::page_cache::MachineMemory;
use crate::shipped::ShippedFiles;
use crate::time::Now;
use crate::walk::Snapshot;

/// Number of changes that are read again in one scan: an inode, a filesystem and a name each.
/// Further ones wait for the next.
const READS_PER_SCAN: usize = 20;

impl Paths {
    /// The changes that wait, after another scan. Reads the inodes of those that were found before
    /// the last scans again, and their names: files that are gone by now are not reported.
    pub(in super::super) fn settle(
        &mut self,
        (reader, memory): (&mut MemoryReader, &mut MachineMemory<'_>),
        (snapshot, now): (&Snapshot, Now),
        (rules, shipped): (&ContentRules, &ShippedFiles),
        strings: &mut Strings,
    ) -> &mut [PendingPathChange] {
        self.remove_over(strings);
        for pending in &mut self.pending {
            pending.scans = pending.scans.saturating_add(snapshot.counts());
        }
        let mut moved = self.read_again((reader, memory), now, strings);
        self.follow_moved(&mut moved, (reader, memory), (rules, shipped), strings);
        self.remove_over(strings);
        self.compare_reported(strings);
        self.find_open(snapshot);
        &mut self.pending
    }

    /// Reads the inodes and names of changes. Returns the places of those whose names are not where
    /// they were, with their folders.
    fn read_again(
        &mut self,
        (reader, memory): (&mut MemoryReader, &mut MachineMemory<'_>),
        now: Now,
        strings: &Strings,
    ) -> ArrayVec<(usize, KernelVa), CLIMBS_AT_ONCE> {
        let can_climb = !self.reads_mounts();
        let MachineMemory { source, kernel } = memory;
        let layouts = &kernel.layouts;
        let mut moved = ArrayVec::new();
        let mut read: ArrayVec<(usize, [Option<u32>; 3]), READS_PER_SCAN> = ArrayVec::new();
        reader.clear();
        for (at, pending) in self.pending.iter().enumerate().filter(|(_, it)| it.needs_read(now)) {
            if read.is_full() {
                break;
            }
            let super_block = pending.attributes.super_block;
            let objects = [
                reader.push(&kernel.space, pending.inode, &layouts.inode.packing),
                reader.push(&kernel.space, super_block, &layouts.super_block.packing),
                reader.push(&kernel.space, pending.place.dentry, &layouts.dentry.packing),
            ];
            if objects.contains(&None) {
                break;
            }
            read.push((at, objects));
        }
        if read.is_empty() {
            return moved;
        }
        reader.run(source, kernel.space.levels);
        for (at, objects) in read {
            let pending = &mut self.pending[at];
            let [inode, block, dentry] = objects.map(|object| reader.object(object? as usize));
            let inode = inode.map(|bytes| Attributes::decode(&layouts.inode, bytes));
            let block = block.map(|bytes| Filesystem::decode(&layouts.super_block, bytes));
            let was = &pending.attributes;
            let same = inode.filter(|is| is.ino == was.ino && is.nlink > 0);
            pending.is_over = same.is_none() || block.is_none();
            pending.attributes = same.unwrap_or(*was);
            pending.device = block.map(|block| block.dev);
            pending.is_on_image = block.is_some_and(|block| block.is_read_only_image());
            let name = dentry
                .map(|bytes| DirectoryEntry::decode(&layouts.dentry, pending.place.dentry, bytes));
            // A folder's change is reported by the path where it was found.
            let name = name.filter(|(name, _)| {
                name.inode == pending.inode && !name.unlinked && !pending.is_folder()
            });
            let Some((name, text)) = name.filter(|_| !pending.is_over) else {
                // No name in memory tells: the one that was found stays.
                (pending.read, pending.is_named) = (now.monotonic, true);
                continue;
            };
            let path = strings.get(pending.path);
            let is_there = name.long_name.is_null()
                && name.parent == pending.parent
                && path.strip_suffix(text).is_some_and(|folder| folder.ends_with(b"/"));
            if is_there && !name.changing {
                (pending.read, pending.is_named) = (now.monotonic, true);
            } else if !name.changing && can_climb && moved.try_push((at, name.parent)).is_ok() {
                pending.read = now.monotonic;
            }
        }
        moved
    }

    /// Follows names that have moved to their new paths.
    fn follow_moved(
        &mut self,
        moved: &mut ArrayVec<(usize, KernelVa), CLIMBS_AT_ONCE>,
        (reader, memory): (&mut MemoryReader, &mut MachineMemory<'_>),
        (rules, shipped): (&ContentRules, &ShippedFiles),
        strings: &mut Strings,
    ) {
        if moved.is_empty() {
            return;
        }
        let places = moved.iter().map(|&(at, _)| self.pending[at].place);
        let mut climbs: ArrayVec<Climb, CLIMBS_AT_ONCE> = places.map(Climb::new).collect();
        climb(&mut climbs, (reader, memory), &self.sweep);
        for ((at, parent), climb) in moved.drain(..).zip(&climbs) {
            let pending = &mut self.pending[at];
            let path = climb.path().filter(|path| *path != strings.get(pending.path));
            let Some(path) = path else {
                (pending.is_named, pending.parent) = (true, parent);
                continue;
            };
            let file = ChangedFile {
                path: Some(path),
                may_execute: pending.attributes.mode & ANY_EXECUTE != 0,
                is_shipped: shipped.has_path(false, path),
                ..ChangedFile::default()
            };
            let matters = rules.matters(&file) || pending.gives_rights(rules, path);
            let id = matters.then(|| strings.intern(path)).flatten();
            let Some(id) = id else {
                // If it gets a name by which it matters later, that is new. What a history was
                // tells that its next file lacks it.
                if !pending.is_history {
                    self.known.forget_path(strings.get(pending.path));
                }
                pending.is_over = true;
                continue;
            };
            let named = self.known.named(path, &pending.attributes);
            let reported = if pending.is_content {
                // Its record may have been made before permissions were set.
                let known =
                    [self.known.hash(path), pending.path_hash].map(|at| self.known.peek(at));
                let mut known = known.into_iter().flatten();
                as_reported(named, known.find(|known| known.is_same_file(&named)))
            } else {
                as_reported(named, pending.before)
            };
            let place = pending.place;
            let before = self.known.set(path, reported, Some(place));
            let is_other =
                |was: &PathTarget| !was.is_same_file(&named) || !was.has_same_content(&named);
            if pending.is_content {
                pending.before = before.filter(is_other);
            }
            let hashes = (self.known.hash(path), self.known.folder_hash(path));
            pending.rename((id, hashes), (place, parent), strings);
        }
    }
}
