//! dpkg's MD5s of the files that it installed: `var/lib/dpkg/info/*.md5sums`.
//!
//! A package's `.list` names the files that it still owns (files that another package replaced are
//! removed there); `diversions` has the new paths of diverted files (dpkg-divert(1)).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::OFlags;

use super::installed::{InstalledFiles, Links, Sum};
use crate::digest::from_hex;
use crate::error::SbomError;
use crate::load::{self, open_regular};
use crate::model::check_path;

/// dpkg's folder of package data, from the root.
pub(super) const INFO: &str = "var/lib/dpkg/info";
const DIVERSIONS: &str = "var/lib/dpkg/diversions";

/// Maximum size of a file of dpkg's that is read: the longest `.list` has some hundred thousand
/// lines. A line takes a byte in the file and many more when it is read.
const BYTES_MAX: u64 = 64 << 20;
/// Maximum number of lines of such a file: ten times those of the longest `.list`.
const LINES_MAX: usize = 4 << 20;

/// Diverted paths, each with the path it was diverted to and the package that diverted it.
type Diversions = HashMap<Vec<u8>, (Vec<u8>, String)>;

/// Reads dpkg's data below `root`.
pub(super) fn read(root: &Path, links: &Links<'_>) -> Result<InstalledFiles, SbomError> {
    let folder = root.join(INFO);
    let failed = SbomError::reading(&folder);
    let diversions = diversions(root)?;
    let mut installed = InstalledFiles::default();
    let mut names: Vec<_> = fs::read_dir(&folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    names.sort();
    for name in names {
        let Some(package) = name.as_bytes().strip_suffix(b".md5sums") else { continue };
        let package: Rc<str> = String::from_utf8_lossy(package).into();
        let sums = read_bounded(&folder.join(&name))?;
        let list = read_bounded(&folder.join(format!("{package}.list")))?;
        let owned: HashSet<&[u8]> = list.split(|byte| *byte == b'\n').collect();
        for (index, line) in sums.split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let Some((md5, path)) = md5_line(line) else {
                return Err(SbomError::content(format!(
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
            installed.add(&path, Sum::Md5(md5), &package, links)?;
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
fn diversions(root: &Path) -> Result<Diversions, SbomError> {
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

fn read_bounded(path: &Path) -> Result<Vec<u8>, SbomError> {
    let bytes = open_regular(path, OFlags::NOFOLLOW)
        .and_then(|file| load::read_bounded(file, BYTES_MAX))
        .map_err(SbomError::reading(path))?;
    let too_large = |most: &str| {
        SbomError::content(format!("{} is larger than any of dpkg's: {most}", path.display()))
    };
    let bytes = bytes.ok_or_else(|| too_large(&format!("{BYTES_MAX} bytes")))?;
    if bytes.iter().filter(|byte| **byte == b'\n').nth(LINES_MAX).is_some() {
        return Err(too_large(&format!("{LINES_MAX} lines")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_larger_than_any_of_dpkg_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.list");
        fs::write(&path, b"\n".repeat(LINES_MAX)).unwrap();
        assert!(read_bounded(&path).is_ok());
        fs::write(&path, b"\n".repeat(LINES_MAX + 1)).unwrap();
        let message = read_bounded(&path).unwrap_err().message;
        assert!(message.ends_with("a.list is larger than any of dpkg's: 4194304 lines"));
        fs::File::create(&path).unwrap().set_len(BYTES_MAX + 1).unwrap();
        let message = read_bounded(&path).unwrap_err().message;
        assert!(message.ends_with("a.list is larger than any of dpkg's: 67108864 bytes"));
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
