//! dpkg's MD5s of the files that it installed: `var/lib/dpkg/info/*.md5sums`.
//!
//! A package's `.list` names the files that it still owns (files that another package replaced are
//! removed there); `diversions` has the new paths of diverted files (dpkg-divert(1)).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::Built;
use crate::digest::from_hex;
use crate::error::{Error, shown};
use crate::load::{self, open_regular};
use crate::model::{File, PATH_BYTES_MAX, Sbom, Subject, check_path};

/// dpkg's folder of package data, from the root.
pub(super) const INFO: &str = "var/lib/dpkg/info";
const DIVERSIONS: &str = "var/lib/dpkg/diversions";

/// Maximum size of a file of dpkg's that is read: the longest `.list` has some hundred thousand
/// lines.
const BYTES_MAX: u64 = 256 << 20;

/// Maximum number of links on the way to a file, as in the kernel (`MAXSYMLINKS`,
/// include/linux/namei.h).
const LINKS_MAX: u32 = 40;

/// Maximum number of different files that are named.
const NAMED_MAX: usize = 10;

/// Returns the target of a symbolic link at a path inside the root, if there is one.
pub(super) type Links<'a> = dyn Fn(&[u8]) -> Option<Vec<u8>> + 'a;

/// By the file's real path: its MD5s, each with the package that has it.
pub(super) type Md5Sums = BTreeMap<Vec<u8>, Vec<([u8; 16], String)>>;

/// By path: the path it was diverted to, and the package that diverted it.
type Diversions = HashMap<Vec<u8>, (Vec<u8>, String)>;

/// Reads dpkg's data below `root`.
pub(super) fn read(root: &Path, links: &Links<'_>) -> Result<Md5Sums, Error> {
    let folder = root.join(INFO);
    let failed = Error::reading(&folder);
    let diversions = diversions(root)?;
    let mut installed = Md5Sums::new();
    let mut folders = HashMap::new();
    let mut names: Vec<_> = fs::read_dir(&folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    names.sort();
    for name in names {
        let Some(package) = name.as_bytes().strip_suffix(b".md5sums") else { continue };
        let package = String::from_utf8_lossy(package).into_owned();
        let sums = read_bounded(&folder.join(&name))?;
        let list = read_bounded(&folder.join(format!("{package}.list")))?;
        let owned: HashSet<&[u8]> = list.split(|byte| *byte == b'\n').collect();
        for (index, line) in sums.split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let Some((md5, path)) = md5_line(line) else {
                return Err(Error::content(format!(
                    "{}:{}:1: is no line of MD5 and path; is the package's database damaged?",
                    folder.join(&name).display(),
                    index + 1
                )));
            };
            if !owned.contains(path.as_slice()) {
                continue;
            }
            let path = match diversions.get(&path) {
                Some((to, by)) if package.split(':').next() != Some(by.as_str()) => to.clone(),
                _ => path,
            };
            let Some(path) = resolve(&path, links, &mut folders) else { continue };
            installed.entry(path).or_default().push((md5, package.clone()));
        }
    }
    Ok(installed)
}

/// `MD5  path`, with the path from the root without its first slash, which is added.
pub(super) fn md5_line(line: &[u8]) -> Option<([u8; 16], Vec<u8>)> {
    let md5 = from_hex(line.get(..32)?)?;
    let path = line.get(32..)?.strip_prefix(b"  ")?;
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let mut absolute = vec![b'/'];
    absolute.extend_from_slice(path);
    check_path(&absolute).ok()?;
    Some((md5, absolute))
}

/// Three lines each: the path, the path it was diverted to, and the package that diverted it.
fn diversions(root: &Path) -> Result<Diversions, Error> {
    let path = root.join(DIVERSIONS);
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let text = read_bounded(&path)?;
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let (threes, _) = lines.as_chunks::<3>();
    let one = |[from, to, by]: &[&[u8]; 3]| {
        (from.to_vec(), (to.to_vec(), String::from_utf8_lossy(by).into_owned()))
    };
    Ok(threes.iter().map(one).filter(|(_, (to, _))| check_path(to).is_ok()).collect())
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = open_regular(path, OFlags::NOFOLLOW)
        .and_then(|file| load::read_bounded(file, BYTES_MAX))
        .map_err(Error::reading(path))?;
    let too_large = || format!("{} is larger than any of dpkg's", path.display());
    bytes.ok_or_else(|| Error::content(too_large()))
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

/// Compares the files with dpkg's MD5s; returns a line for people.
pub(super) fn compare(installed: &Md5Sums, files: &[File]) -> String {
    let (mut same, mut missing) = (0_u64, 0_u64);
    let mut different = Vec::new();
    for (path, sums) in installed {
        let found = files.binary_search_by(|file| file.path.as_deref().cmp(&Some(path.as_slice())));
        match found {
            Err(_) => missing += 1,
            Ok(index) => {
                let md5 = files[index].md5;
                if sums.iter().any(|(sum, _)| Some(*sum) == md5) {
                    same += 1;
                } else {
                    let package = sums.first().map_or("", |(_, package)| package);
                    different.push(format!("{} ({package})", shown(path)));
                }
            }
        }
    }
    let count = different.len();
    let mut line =
        format!("dpkg: {same} files are what it installed, {count} differ, {missing} are missing");
    if count > 0 {
        line += ": ";
        line += &different[..count.min(NAMED_MAX)].join(", ");
        if count > NAMED_MAX {
            line += ", …";
        }
    }
    line
}

/// An SBOM from dpkg's data alone; no other file is read.
pub(super) fn trusted(root: &Path) -> Result<Built, Error> {
    let links = |path: &[u8]| {
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        let place = root.join(std::ffi::OsStr::from_bytes(relative));
        fs::read_link(place).ok().map(|target| target.as_os_str().as_bytes().to_vec())
    };
    let installed = read(root, &links)?;
    let mut remarks = Vec::new();
    let mut files = Vec::with_capacity(installed.len());
    for (path, sums) in installed {
        let Some((md5, package)) = sums.first() else { continue };
        if let Some((_, other)) = sums.iter().find(|(sum, _)| sum != md5) {
            remarks.push(format!(
                "{} is of {package} and of {other}, which do not agree; it is left out",
                shown(&path)
            ));
            continue;
        }
        files.push(File { path: Some(path), md5: Some(*md5), ..File::default() });
    }
    Ok(Built {
        sbom: Sbom { subject: Subject::Root { name: None }, files },
        source: "dpkg's database",
        problems: Vec::new(),
        remarks,
        bytes: 0,
        special: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn lines_of_sums_are_read() {
        let (md5, path) = md5_line(b"0102030405060708090a0b0c0d0e0f10  usr/bin/a b").unwrap();
        assert_eq!((md5[15], path.as_slice()), (16, &b"/usr/bin/a b"[..]));
        for bad in ["", "01  a", "0102030405060708090a0b0c0d0e0f10 a"] {
            assert!(md5_line(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(md5_line(b"0102030405060708090a0b0c0d0e0f10  ../a").is_none());
    }
}
