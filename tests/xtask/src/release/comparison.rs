//! The comparison of two builds, byte for byte.

use std::fs;
use std::path::Path;

use panoptes_rig::cache;

/// Compares all files of the second page with those of the first.
pub(super) fn compare(first: &Path, second: &Path) -> Result<(), String> {
    let mut different = Vec::new();
    let paths = cache::list(second)?;
    for path in &paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
        let (one, other) = (read(&first.join(&*name))?, read(path)?);
        match difference(&one, &other) {
            None => println!("equal: {name} ({} bytes)", one.len()),
            Some(at) => {
                println!("different from byte {at} on: {name} ({} and {})", one.len(), other.len());
                different.push(name.into_owned());
            }
        }
    }
    if paths.is_empty() {
        return Err("the second build has made nothing".to_owned());
    }
    if different.is_empty() {
        return Ok(());
    }
    Err(format!("two builds differ in {}", different.join(", ")))
}

/// The place from which on two files differ, in bytes.
fn difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let at = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    (at < one.len().max(other.len())).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folders::Temporary;

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(difference(b"abc", b"abc"), None);
        assert_eq!(difference(b"abc", b"abd"), Some(2));
        assert_eq!(difference(b"abc", b"ab"), Some(2));
        assert_eq!(difference(b"", b"a"), Some(0));
        assert_eq!(difference(b"", b""), None);
    }

    #[test]
    fn each_file_of_the_second_build_must_be_in_the_first() {
        let folder = Temporary::new("release-comparison").expect("there is room");
        let pages = ["one", "other"].map(|name| folder.0.join(name));
        for page in &pages {
            fs::create_dir(page).expect("there is room");
        }
        let [one, other] = &pages;
        assert!(compare(one, other).is_err());
        fs::write(other.join("a"), "1").expect("there is room");
        assert!(compare(one, other).is_err());
        fs::write(one.join("a"), "1").expect("there is room");
        fs::write(one.join("b"), "2").expect("there is room");
        assert_eq!(compare(one, other), Ok(()));
        fs::write(one.join("a"), "2").expect("there is room");
        assert_eq!(compare(one, other), Err("two builds differ in a".to_owned()));
    }
}
