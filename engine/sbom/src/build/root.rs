//! A root directory: every regular file below it, by the path that the kernel would give.
//!
//! Symbolic links are not followed, so nothing outside the root is read and each file is listed at
//! its real path. Hard links are listed under each of their names and read once. File systems
//! without files of their own (`/proc`, `/sys`, …) are left out.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::manager::PackageManagerKind;
use super::{BuildOptions, BuildProgress, BuildResult, on_all_processors};
use crate::digest::{BLOCK_BYTES, ContentDigests, PageHashes, digest};
use crate::error::SbomError;
use crate::load::open_regular;
use crate::model::{PATH_BYTES_MAX, Sbom, SbomFile, SbomSubject};

struct RootFile {
    /// Inside the root.
    path: Vec<u8>,
    mode: u16,
    /// Index of its content.
    content: usize,
}

/// A content to be read, once for all its names.
struct PendingContent {
    /// The path where it is read.
    place: PathBuf,
    /// Index of the first file with it.
    file: usize,
    device: u64,
    inode: u64,
    size: u64,
}

/// Everything found below a root.
#[derive(Default)]
struct RootTree {
    files: Vec<RootFile>,
    contents: Vec<PendingContent>,
    /// The targets of links, by path inside the root.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    special: u64,
    problems: Vec<String>,
    remarks: Vec<String>,
}

impl RootTree {
    /// Adds an error to the problems.
    fn note<T>(&mut self, result: io::Result<T>, place: &Path, done: &str) -> Option<T> {
        let problem = |error| format!("{} can't be {done}: {error}", place.display());
        result.map_err(|error| self.problems.push(problem(error))).ok()
    }
}

pub(super) fn build(
    root: &Path,
    options: &BuildOptions,
    manager: Option<PackageManagerKind>,
    progress: &dyn BuildProgress,
) -> Result<BuildResult, SbomError> {
    // With `/.`, the root itself may be given by a symbolic link.
    let top = fs::metadata(root).map_err(SbomError::reading(root))?;
    fs::read_dir(root).map_err(SbomError::reading(root))?;
    let mut tree = find(root, &top, &options.excluded);
    progress.expect(tree.contents.iter().map(|wanted| wanted.size).sum());
    let contents = hash(&mut tree, options.page_hashes, progress);
    let bytes = contents.iter().flatten().map(|content| content.size).sum();
    // Files that could not be read are among the problems.
    let files = tree.files.iter().filter_map(|found| {
        let content = contents[found.content].as_ref()?;
        Some(file(found.path.clone(), found.mode, content))
    });
    let files = files.collect();
    tree.problems.sort();
    let mut sbom = Sbom { subject: SbomSubject::Root { name: None }, files };
    sbom.settle()?;
    if let Some(manager) = manager {
        let link = |path: &[u8]| tree.links.get(path).cloned();
        let mut installed = manager.read(root, &link)?;
        tree.remarks.append(&mut installed.remarks);
        tree.remarks.push(installed.compare(manager.name(), &sbom.files));
    }
    Ok(BuildResult {
        sbom,
        source: match manager {
            Some(_) => "a root directory with packages",
            None => "a root directory",
        },
        problems: tree.problems,
        remarks: tree.remarks,
        bytes,
        special: tree.special,
    })
}

/// A file of the model.
pub(super) fn file(path: Vec<u8>, mode: u16, content: &ContentDigests) -> SbomFile {
    SbomFile {
        path: Some(path),
        size: Some(content.size),
        mode: Some(mode),
        sha256: Some(content.sha256),
        sha1: Some(content.sha1),
        md5: Some(content.md5),
        pages: content.pages.clone(),
        arguments: Vec::new(),
    }
}

/// Walks over the tree, reading no file.
fn find(root: &Path, top: &Metadata, excluded: &[PathBuf]) -> RootTree {
    let mut tree = RootTree::default();
    // Hard links: device and inode to the content.
    let mut shared: HashMap<(u64, u64), usize> = HashMap::new();
    let mut waiting = vec![(root.to_owned(), Vec::new(), top.dev())];
    while let Some((place, path, device)) = waiting.pop() {
        let Some(entries) = tree.note(fs::read_dir(&place), &place, "listed") else { continue };
        for entry in entries {
            let Some(entry) = tree.note(entry, &place, "listed") else { break };
            let mut inner = path.clone();
            inner.push(b'/');
            inner.extend_from_slice(entry.file_name().as_bytes());
            let place = entry.path();
            if excluded.iter().any(|path| path.as_os_str().as_bytes() == inner) {
                continue;
            }
            let metadata = tree.note(place.symlink_metadata(), &place, "read");
            let Some(metadata) = metadata else { continue };
            if inner.len() > PATH_BYTES_MAX {
                tree.problems
                    .push(format!("{}: no kernel gives a path this long", place.display()));
                continue;
            }
            let kind = metadata.file_type();
            if kind.is_dir() {
                if metadata.dev() != device && is_virtual(&place) {
                    tree.remarks.push(format!(
                        "left out {}, a file system of the kernel's own",
                        place.display()
                    ));
                } else {
                    waiting.push((place, inner, metadata.dev()));
                }
            } else if kind.is_symlink() {
                if let Ok(target) = fs::read_link(&place) {
                    tree.links.insert(inner, target.as_os_str().as_bytes().to_vec());
                }
            } else if kind.is_file() {
                add_file(&mut tree, &mut shared, inner, place, &metadata);
            } else {
                debug_assert!(
                    kind.is_fifo()
                        || kind.is_socket()
                        || kind.is_char_device()
                        || kind.is_block_device()
                );
                tree.special += 1;
            }
        }
    }
    tree.remarks.sort();
    tree
}

fn add_file(
    tree: &mut RootTree,
    shared: &mut HashMap<(u64, u64), usize>,
    path: Vec<u8>,
    place: PathBuf,
    metadata: &Metadata,
) {
    let (device, inode) = (metadata.dev(), metadata.ino());
    let known = (metadata.nlink() > 1).then(|| shared.get(&(device, inode))).flatten();
    let content = known.copied().unwrap_or_else(|| {
        let file = tree.files.len();
        tree.contents.push(PendingContent { place, file, device, inode, size: metadata.size() });
        tree.contents.len() - 1
    });
    if metadata.nlink() > 1 {
        shared.insert((device, inode), content);
    }
    tree.files.push(RootFile { path, mode: (metadata.mode() & 0o7777) as u16, content });
}

/// Whether a file system has no shipped files: those that the kernel generates.
fn is_virtual(place: &Path) -> bool {
    // The magic numbers of include/uapi/linux/magic.h.
    const VIRTUAL: [u64; 17] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x1cd1,      // devpts
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x6165_676c, // pstore
        0xde5e_81e4, // efivarfs
        0x6265_6570, // configfs
        0x6573_5543, // fusectl
        0x1980_0202, // mqueue
        0x9584_58f6, // hugetlbfs
        0xf97c_ff8c, // selinuxfs
        0x4249_4e4d, // binfmt_misc
    ];
    file_system(place).is_some_and(|kind| VIRTUAL.contains(&kind))
}

/// The magic number of the file system that a directory is on.
fn file_system(place: &Path) -> Option<u64> {
    let found = rustix::fs::statfs(place).ok()?;
    Some(found.f_type as u64 & 0xffff_ffff)
}

/// Hashes the contents on all processors; those that cannot be read are added to the tree's
/// problems.
fn hash(
    tree: &mut RootTree,
    pages: PageHashes,
    progress: &dyn BuildProgress,
) -> Vec<Option<ContentDigests>> {
    let (wanted, files) = (&tree.contents, &tree.files);
    // The largest first, so that the last one to finish is a small one.
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(wanted[*index].size));
    let read = |block: &mut Vec<u8>, at: usize| {
        let wanted = &wanted[order[at]];
        read(wanted, &files[wanted.file], block, pages, progress)
    };
    let done = on_all_processors(order.len(), || vec![0; BLOCK_BYTES], read);
    let mut contents = vec![None; order.len()];
    for (index, read) in order.into_iter().zip(done) {
        let place = tree.contents[index].place.display();
        let note = |error| tree.problems.push(format!("{place} can't be read: {error}"));
        contents[index] = read.map_err(note).ok();
    }
    contents
}

fn read(
    wanted: &PendingContent,
    found: &RootFile,
    block: &mut [u8],
    pages: PageHashes,
    progress: &dyn BuildProgress,
) -> io::Result<ContentDigests> {
    let mut file = open_regular(&wanted.place, OFlags::NOFOLLOW)?;
    let is_same =
        |metadata: &Metadata| (metadata.dev(), metadata.ino()) == (wanted.device, wanted.inode);
    let changed = || io::Error::other("it was changed meanwhile; try again");
    let before = file.metadata()?;
    if !is_same(&before) {
        return Err(changed());
    }
    let name = &found.path;
    let content =
        digest(&mut file, block, pages, name, found.mode, &mut |bytes| progress.advance(bytes))?;
    let after = file.metadata()?;
    let times = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec(), metadata.size());
    if content.size != before.size() || times(&before) != times(&after) {
        return Err(changed());
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes a file between the walk and its reading, and returns the outcome.
    fn after(change: impl FnOnce(&Path)) -> Result<u64, String> {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a");
        fs::write(&place, "abc").unwrap();
        let mut tree = find(folder.path(), &fs::metadata(folder.path()).unwrap(), &[]);
        change(&place);
        let contents = hash(&mut tree, PageHashes::None, &());
        match contents.as_slice() {
            [Some(content)] if tree.problems.is_empty() => Ok(content.size),
            _ => Err(tree.problems.join("; ")),
        }
    }

    #[test]
    fn what_changes_meanwhile_is_reported() {
        assert_eq!(after(|_| ()), Ok(3));
        let gone = after(|place| fs::remove_file(place).unwrap());
        assert!(gone.unwrap_err().contains("/a can't be read: No such file"));
        let replaced = after(|place| {
            fs::write(place.with_extension("new"), "abc").unwrap();
            fs::rename(place.with_extension("new"), place).unwrap();
        });
        assert!(replaced.unwrap_err().contains("changed meanwhile"));
        // A link in its place is not followed.
        let link = after(|place| {
            fs::remove_file(place).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", place).unwrap();
        });
        assert!(link.unwrap_err().contains("can't be read"));
    }
}
