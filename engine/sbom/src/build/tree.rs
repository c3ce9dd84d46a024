//! A file system merged from layers, as a runtime merges an image's (OCI image specification,
//! "Image Layer Filesystem Changeset").
//!
//! A layer's `.wh.NAME` removes NAME of the layers below, and `.wh..wh..opq` everything in its
//! directory. They remove nothing of their own layer, wherever in it they are. Directories on the
//! way to an entry may be symbolic links of lower layers; they are followed inside the root.

use std::collections::BTreeMap;

use super::layer::{EntryKind, LayerEntry};
use super::room::{ENTRIES_MAX, PAGES_MAX, too_many};
use super::root::file;
use crate::digest::ContentDigests;
use crate::error::{SbomError, shown};
use crate::model::{PATH_BYTES_MAX, SbomFile};

pub(super) const WHITEOUT: &[u8] = b".wh.";
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names with this beginning are a file system's own notes.
const NOTE: &[u8] = b".wh..wh.";

/// Maximum number of directories and files: that of the entries of all archives.
const NODES_MAX: usize = ENTRIES_MAX as usize;
/// Maximum number of directories that no entry names before the entries in them: an entry can imply
/// two thousand. Most archives name all of theirs.
const IMPLIED_MAX: usize = 1 << 20;
/// Maximum number of steps through directories and links for all entries: a hundred times those
/// of a large distribution. An entry can lead through a million.
const STEPS_MAX: usize = 100_000_000;
/// Bytes of a path that count as one further step. Names of real files have fewer.
const STEP_BYTES: usize = 64;
/// Maximum number of bytes in the paths of all files. Links make paths that are longer than those
/// of an archive.
const FILE_PATHS_BYTES_MAX: usize = 2 << 30;
/// Maximum number of links followed for one path, as in containerd.
const LINKS_MAX: u32 = 255;

/// The object at a name.
enum ImageNode {
    Directory(BTreeMap<Vec<u8>, NodeBinding>),
    File { mode: u16, content: ContentDigests },
    Symlink(Vec<u8>),
    Special,
}

/// A name's node, and the layer that added it.
#[derive(Clone, Copy)]
struct NodeBinding {
    node: usize,
    layer: usize,
}

/// The file system.
pub(super) struct ImageTree {
    /// The first one is the root.
    nodes: Vec<ImageNode>,
    layer: usize,
    /// How many more implied directories, and steps, there may be.
    implied_left: usize,
    steps_left: usize,
}

impl ImageTree {
    pub(super) fn new() -> Self {
        let nodes = vec![ImageNode::Directory(BTreeMap::new())];
        Self { nodes, layer: 0, implied_left: IMPLIED_MAX, steps_left: STEPS_MAX }
    }

    /// Merges a layer over the existing ones.
    pub(super) fn apply(&mut self, entries: Vec<LayerEntry>) -> Result<(), SbomError> {
        self.layer += 1;
        for entry in entries {
            let (folder, name) = split(&entry.path);
            if name.is_empty() {
                continue;
            }
            let is_note = |name: &[u8]| name.starts_with(NOTE) && name != OPAQUE;
            if entry.path.split(|byte| *byte == b'/').any(is_note) {
                // It is not visible in a container.
            } else if name == OPAQUE {
                if let Some(folder) = self.walk(folder, false)? {
                    self.empty(folder, &entry.path)?;
                }
            } else if let Some(name) = name.strip_prefix(WHITEOUT) {
                if let Some(folder) = self.walk(folder, false)? {
                    self.take_away(folder, name, &entry.path)?;
                }
            } else {
                self.put(&entry.path, entry.kind)?;
            }
        }
        Ok(())
    }

    /// Adds entries, whatever their names, without whiteouts.
    pub(super) fn unpack(&mut self, entries: Vec<LayerEntry>) -> Result<(), SbomError> {
        self.layer += 1;
        for entry in entries {
            if !entry.path.is_empty() {
                self.put(&entry.path, entry.kind)?;
            }
        }
        Ok(())
    }

    /// The same for entries that are written over existing files: a file's new content is that of
    /// all its names.
    pub(super) fn write_over(&mut self, entries: Vec<LayerEntry>) -> Result<(), SbomError> {
        self.layer += 1;
        for entry in entries {
            if entry.path.is_empty() {
                continue;
            }
            match entry.kind {
                EntryKind::File { mode, content } => {
                    let (folder, name) = split(&entry.path);
                    let folder = self.folder(folder)?;
                    let there = self.child(folder, name).map(|bound| bound.node);
                    match there.and_then(|node| self.nodes.get_mut(node)) {
                        Some(file @ ImageNode::File { .. }) => {
                            *file = ImageNode::File { mode, content }
                        }
                        _ => self.put(&entry.path, EntryKind::File { mode, content })?,
                    }
                }
                kind => self.put(&entry.path, kind)?,
            }
        }
        Ok(())
    }

    /// Every regular file by its path, and the number of special ones. An error if their page
    /// digests, which each name of a file gets, are more than all archives may have.
    pub(super) fn files(&self) -> Result<(Vec<SbomFile>, u64), SbomError> {
        self.files_up_to(PAGES_MAX, |path| {
            SbomError::content(format!(
                "holds more than {PAGES_MAX} pages of executable files, with all names of each, \
                 at {}",
                shown(path)
            ))
        })
    }

    /// The same, with another error if the page digests are more than so many. It gets the path of
    /// the file that has too many.
    pub(super) fn files_up_to(
        &self,
        pages_max: usize,
        too_many_pages: impl Fn(&[u8]) -> SbomError,
    ) -> Result<(Vec<SbomFile>, u64), SbomError> {
        let mut pages_left = pages_max;
        let (mut files, mut special) = (Vec::new(), 0);
        let mut bytes_left = FILE_PATHS_BYTES_MAX;
        let mut waiting = vec![(0, Vec::new())];
        while let Some((node, path)) = waiting.pop() {
            match &self.nodes[node] {
                ImageNode::Directory(names) => {
                    for (name, bound) in names {
                        let mut path = path.clone();
                        path.push(b'/');
                        path.extend_from_slice(name);
                        let left = bytes_left.checked_sub(path.len());
                        bytes_left =
                            left.filter(|_| path.len() <= PATH_BYTES_MAX).ok_or_else(|| {
                                SbomError::content(format!(
                                    "has a path of more than {PATH_BYTES_MAX} bytes, or \
                                 {FILE_PATHS_BYTES_MAX} bytes of paths, at {}",
                                    shown(&path)
                                ))
                            })?;
                        waiting.push((bound.node, path));
                    }
                }
                ImageNode::File { mode, content } => {
                    let left = pages_left.checked_sub(content.pages.len());
                    pages_left = left.ok_or_else(|| too_many_pages(&path))?;
                    files.push(file(path, *mode, content));
                }
                ImageNode::Symlink(_) => {}
                ImageNode::Special => special += 1,
            }
        }
        Ok((files, special))
    }

    fn put(&mut self, path: &[u8], kind: EntryKind) -> Result<(), SbomError> {
        let (folder, name) = split(path);
        let folder = self.folder(folder)?;
        let there = self.child(folder, name);
        let node = match kind {
            EntryKind::Directory => match there {
                // An existing directory keeps its content.
                Some(bound) if matches!(self.nodes[bound.node], ImageNode::Directory(_)) => {
                    bound.node
                }
                _ => self.add(ImageNode::Directory(BTreeMap::new()), path)?,
            },
            EntryKind::File { mode, content } => {
                self.add(ImageNode::File { mode, content }, path)?
            }
            EntryKind::Symlink(to) => self.add(ImageNode::Symlink(to), path)?,
            EntryKind::Special => self.add(ImageNode::Special, path)?,
            EntryKind::Link(to) => {
                let missing = || {
                    let (path, to) = (shown(path), shown(&to));
                    SbomError::content(format!(
                        "/{path} is a hard link to /{to}, which is not there"
                    ))
                };
                let (to_folder, to_name) = split(&to);
                let to_folder = self.walk(to_folder, false)?.ok_or_else(missing)?;
                let target = self.child(to_folder, to_name).ok_or_else(missing)?;
                if matches!(self.nodes[target.node], ImageNode::Directory(_)) {
                    return Err(missing());
                }
                target.node
            }
        };
        let bound = NodeBinding { node, layer: self.layer };
        if let ImageNode::Directory(names) = &mut self.nodes[folder] {
            names.insert(name.to_vec(), bound);
        }
        Ok(())
    }

    fn add(&mut self, node: ImageNode, path: &[u8]) -> Result<usize, SbomError> {
        if self.nodes.len() == NODES_MAX {
            return Err(too_many(NODES_MAX, "files and directories", path));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn child(&self, folder: usize, name: &[u8]) -> Option<NodeBinding> {
        match &self.nodes[folder] {
            ImageNode::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }

    /// Takes the room of steps at a path.
    fn step(&mut self, count: usize, path: &[u8]) -> Result<(), SbomError> {
        let left = self.steps_left.checked_sub(count);
        let what = "steps through directories and links";
        self.steps_left = left.ok_or_else(|| too_many(STEPS_MAX, what, path))?;
        Ok(())
    }

    /// Takes the room of a directory that the entries below imply, and adds it.
    fn imply(&mut self, path: &[u8]) -> Result<usize, SbomError> {
        let left = self.implied_left.checked_sub(1);
        let what = "directories that no entry names";
        self.implied_left = left.ok_or_else(|| too_many(IMPLIED_MAX, what, path))?;
        self.add(ImageNode::Directory(BTreeMap::new()), path)
    }

    /// The directory at a path, created if it is missing.
    fn folder(&mut self, path: &[u8]) -> Result<usize, SbomError> {
        let folder = self.walk(path, true)?;
        folder.ok_or_else(|| SbomError::content(format!("/{} is no directory", shown(path))))
    }

    /// Walks to a directory; `None` if it is missing and `make` is false.
    fn walk(&mut self, path: &[u8], make: bool) -> Result<Option<usize>, SbomError> {
        let names = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect()
        };
        // The names still to be walked, the next one last; and the way back.
        let mut waiting = names(path);
        self.step(waiting.len() + path.len() / STEP_BYTES, path)?;
        let mut way = vec![0];
        let mut followed = 0;
        while let Some(name) = waiting.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let at = way.last().copied().unwrap_or(0);
            let Some(bound) = self.child(at, &name) else {
                if !make || way.len() > PATH_BYTES_MAX {
                    return Ok(None);
                }
                let node = self.imply(path)?;
                if let ImageNode::Directory(names) = &mut self.nodes[at] {
                    names.insert(name, NodeBinding { node, layer: self.layer });
                }
                way.push(node);
                continue;
            };
            match &self.nodes[bound.node] {
                ImageNode::Directory(_) => way.push(bound.node),
                ImageNode::Symlink(to) => {
                    followed += 1;
                    if followed > LINKS_MAX || to.len() > PATH_BYTES_MAX {
                        let message = format!("/{} leads through too many links", shown(path));
                        return Err(SbomError::content(message));
                    }
                    if to.starts_with(b"/") {
                        way.truncate(1);
                    }
                    let further = names(to);
                    let steps = further.len() + to.len() / STEP_BYTES;
                    waiting.extend(further);
                    self.step(steps, path)?;
                }
                ImageNode::File { .. } | ImageNode::Special => return Ok(None),
            }
        }
        Ok(way.last().copied())
    }

    /// Removes what lower layers have at a name, for the entry at `path`.
    fn take_away(&mut self, folder: usize, name: &[u8], path: &[u8]) -> Result<(), SbomError> {
        let Some(bound) = self.child(folder, name) else { return Ok(()) };
        let is_directory = matches!(self.nodes[bound.node], ImageNode::Directory(_));
        if is_directory {
            self.empty(bound.node, path)?;
        }
        // A directory in which this layer has an entry stays.
        let is_empty = match &self.nodes[bound.node] {
            ImageNode::Directory(names) => names.is_empty(),
            _ => true,
        };
        if bound.layer < self.layer
            && is_empty
            && let ImageNode::Directory(names) = &mut self.nodes[folder]
        {
            names.remove(name);
        }
        Ok(())
    }

    /// Removes what lower layers have below a directory, for the entry at `path`.
    fn empty(&mut self, folder: usize, path: &[u8]) -> Result<(), SbomError> {
        // Directories below, each after its parent; then from the deepest up.
        let mut folders = vec![(folder, None)];
        let mut at = 0;
        while let Some(node) = folders.get(at).map(|(node, _)| *node) {
            if let ImageNode::Directory(names) = &self.nodes[node] {
                let steps = names.len() + 1;
                for (name, bound) in names {
                    if matches!(self.nodes[bound.node], ImageNode::Directory(_)) {
                        folders.push((bound.node, Some((node, name.clone(), bound.layer))));
                    }
                }
                self.step(steps, path)?;
            }
            at += 1;
        }
        while let Some((node, holder)) = folders.pop() {
            let layer = self.layer;
            let mut names = match &mut self.nodes[node] {
                ImageNode::Directory(names) => std::mem::take(names),
                _ => continue,
            };
            names.retain(|_, bound| {
                bound.layer == layer || matches!(self.nodes[bound.node], ImageNode::Directory(_))
            });
            let is_empty = names.is_empty();
            self.nodes[node] = ImageNode::Directory(names);
            if let Some((holder, name, bound_by)) = holder
                && is_empty
                && bound_by < layer
                && let ImageNode::Directory(names) = &mut self.nodes[holder]
            {
                names.remove(&name);
            }
        }
        Ok(())
    }
}

/// The folder and the last name of a path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests;
