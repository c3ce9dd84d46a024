//! What a package manager has installed: the digests that it knows of its files.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::error::{SbomError, shown};
use crate::model::{PATH_BYTES_MAX, SbomFile};

/// Maximum number of links on the way to a file, as in the kernel (`MAXSYMLINKS`,
/// include/linux/namei.h).
const LINKS_MAX: u32 = 40;

/// Maximum number of files of all packages, and of bytes in their paths and those of their folders:
/// ten times those of the largest distributions.
const FILES_MAX: usize = 16 << 20;
const BYTES_MAX: usize = 2 << 30;
/// Maximum number of different files that are named.
const NAMED_MAX: usize = 10;

/// Returns the target of a symbolic link at a path inside the root, if there is one.
pub(super) type Links<'a> = dyn Fn(&[u8]) -> Option<Vec<u8>> + 'a;

/// The digest of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sum {
    Md5([u8; 16]),
    Sha1([u8; 20]),
    Sha256([u8; 32]),
}

impl Sum {
    /// Whether a file has it.
    fn is_of(self, file: &SbomFile) -> bool {
        match self {
            Self::Md5(sum) => file.md5 == Some(sum),
            Self::Sha1(sum) => file.sha1 == Some(sum),
            Self::Sha256(sum) => file.sha256 == Some(sum),
        }
    }

    /// A file of which nothing else is known.
    fn file(self, path: Vec<u8>) -> SbomFile {
        let file = SbomFile { path: Some(path), ..SbomFile::default() };
        match self {
            Self::Md5(sum) => SbomFile { md5: Some(sum), ..file },
            Self::Sha1(sum) => SbomFile { sha1: Some(sum), ..file },
            Self::Sha256(sum) => SbomFile { sha256: Some(sum), ..file },
        }
    }
}

/// What a package manager's database has.
pub(super) struct InstalledFiles {
    /// Digests by the file's real path, each with the package that has it.
    sums: BTreeMap<Vec<u8>, Vec<(Sum, Rc<str>)>>,
    /// For people, one line each.
    pub(super) remarks: Vec<String>,
    /// The real paths of folders.
    folders: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// How many files, and bytes in their paths, there may still be.
    files_left: usize,
    bytes_left: usize,
}

impl Default for InstalledFiles {
    fn default() -> Self {
        Self {
            sums: BTreeMap::new(),
            remarks: Vec::new(),
            folders: HashMap::new(),
            files_left: FILES_MAX,
            bytes_left: BYTES_MAX,
        }
    }
}

impl InstalledFiles {
    /// Adds a file, whose path may lead through links. An error if there are more files than any
    /// system has.
    pub(super) fn add(
        &mut self,
        path: &[u8],
        sum: Sum,
        package: &Rc<str>,
        links: &Links<'_>,
    ) -> Result<(), SbomError> {
        let folders = self.folders.len();
        let real = resolve(path, links, &mut self.folders);
        let real_bytes = real.as_ref().map_or(0, Vec::len);
        // A new folder and its real path are kept, too.
        let of_folder = if self.folders.len() > folders { path.len() + real_bytes } else { 0 };
        let bytes = real_bytes + of_folder;
        let left = self.files_left.checked_sub(1).zip(self.bytes_left.checked_sub(bytes));
        let Some(left) = left else {
            return Err(SbomError::content(format!(
                "holds more than {FILES_MAX} files, or {BYTES_MAX} bytes of paths, at {} of {}",
                shown(path),
                shown(package.as_bytes())
            )));
        };
        (self.files_left, self.bytes_left) = left;
        if let Some(path) = real {
            self.sums.entry(path).or_default().push((sum, Rc::clone(package)));
        }
        Ok(())
    }

    /// The files, of which nothing but the digests is known, and remarks.
    pub(super) fn into_files(self) -> (Vec<SbomFile>, Vec<String>) {
        let mut remarks = self.remarks;
        let mut files = Vec::with_capacity(self.sums.len());
        for (path, sums) in self.sums {
            let Some((sum, package)) = sums.first() else { continue };
            if let Some((_, other)) = sums.iter().find(|(other, _)| other != sum) {
                remarks.push(format!(
                    "{} is of {package} and of {other}, which do not agree; it is left out",
                    shown(&path)
                ));
                continue;
            }
            files.push(sum.file(path));
        }
        (files, remarks)
    }

    /// Compares the files with the digests; returns a line for people, with the manager's name.
    pub(super) fn compare(&self, name: &str, files: &[SbomFile]) -> String {
        let (mut same, mut missing) = (0_u64, 0_u64);
        let mut different = Vec::new();
        for (path, sums) in &self.sums {
            let path = path.as_slice();
            match files.binary_search_by(|file| file.path.as_deref().cmp(&Some(path))) {
                Err(_) => missing += 1,
                Ok(index) if sums.iter().any(|(sum, _)| sum.is_of(&files[index])) => same += 1,
                Ok(_) => {
                    let package = sums.first().map_or("", |(_, package)| &**package);
                    different.push(format!("{} ({package})", shown(path)));
                }
            }
        }
        let count = different.len();
        let mut line = format!(
            "{name}: {same} files are what it installed, {count} differ, {missing} are missing"
        );
        if count > 0 {
            line += ": ";
            line += &different[..count.min(NAMED_MAX)].join(", ");
            if count > NAMED_MAX {
                line += ", …";
            }
        }
        line
    }
}

/// The real path of a file whose path may lead through links, such as `/bin` to `usr/bin`; never
/// outside the root. `folders` caches the resolved folders.
fn resolve(
    path: &[u8],
    links: &Links<'_>,
    folders: &mut HashMap<Vec<u8>, Option<Vec<u8>>>,
) -> Option<Vec<u8>> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let (folder, name) = path.split_at(slash);
    if !folders.contains_key(folder) {
        let real = resolve_folder(folder, links);
        folders.insert(folder.to_vec(), real);
    }
    let mut real = folders.get(folder)?.clone()?;
    real.extend_from_slice(name);
    Some(real)
}

fn resolve_folder(folder: &[u8], links: &Links<'_>) -> Option<Vec<u8>> {
    let mut followed = 0;
    let mut real: Vec<u8> = Vec::new();
    // The names still to be walked, the next one last.
    let split = |path: &[u8]| {
        let names = path.split(|byte| *byte == b'/').rev();
        names.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let mut waiting = split(folder);
    while let Some(name) = waiting.pop() {
        match name.as_slice() {
            b"" | b"." => {}
            b".." => {
                let end = real.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                real.truncate(end);
            }
            _ => {
                let end = real.len();
                real.push(b'/');
                real.extend_from_slice(&name);
                if real.len() > PATH_BYTES_MAX {
                    return None;
                }
                if let Some(target) = links(&real) {
                    followed += 1;
                    if followed > LINKS_MAX {
                        return None;
                    }
                    real.truncate(if target.starts_with(b"/") { 0 } else { end });
                    waiting.extend(split(&target));
                }
            }
        }
    }
    Some(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_files_or_paths_than_any_system_has_are_an_error() {
        let add = |installed: &mut InstalledFiles, path: &[u8]| {
            installed.add(path, Sum::Md5([0; 16]), &"app".into(), &|_| None)
        };
        let few = || InstalledFiles { files_left: 2, ..InstalledFiles::default() };
        let mut installed = few();
        assert!(add(&mut installed, b"/a").is_ok() && add(&mut installed, b"/b").is_ok());
        let message = add(&mut installed, b"/c").unwrap_err().message;
        assert!(message.contains("more than 16777216 files"), "{message}");
        assert!(message.ends_with("at /c of app"), "{message}");
        // The folder counts once: it is kept by its path and by its real one.
        let mut installed = InstalledFiles { bytes_left: 6 * 3 + 6, ..InstalledFiles::default() };
        assert!(add(&mut installed, b"/bin/a").is_ok() && add(&mut installed, b"/bin/b").is_ok());
        assert!(add(&mut installed, b"/bin/c").is_err());
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let links = |path: &[u8]| match path {
            b"/bin" => Some(b"usr/bin".to_vec()),
            b"/usr/x" => Some(b"/bin/../../../../lib".to_vec()),
            b"/a" => Some(b"b".to_vec()),
            b"/b" => Some(b"/a".to_vec()),
            _ => None,
        };
        let at = |path: &str| {
            let real = resolve(path.as_bytes(), &links, &mut HashMap::new());
            real.map(|real| String::from_utf8(real).unwrap())
        };
        assert_eq!(at("/bin/ls").as_deref(), Some("/usr/bin/ls"));
        assert_eq!(at("/usr/bin/ls").as_deref(), Some("/usr/bin/ls"));
        assert_eq!(at("/usr/x/y").as_deref(), Some("/lib/y"));
        // The last name is the file itself.
        assert_eq!(at("/bin").as_deref(), Some("/bin"));
        assert_eq!(at("/a/x"), None);
    }
}
