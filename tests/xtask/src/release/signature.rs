//! SHA-256 sums of all files of the page, and their signature by a key of ssh.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_rig::{boxes, cache, output};
use sha2::{Digest as _, Sha256};

use super::step::{ReleaseStep, SIGNATURE, SUMS};
use crate::cargo;
use crate::folders::ROOT;

/// The namespace of signatures: it is a part of what is signed, so that no signature serves for
/// something else (ssh-keygen(1)).
const NAMESPACE: &str = "file";
/// What ssh-keygen prints of a key that has a passphrase, if it is given another one.
const WRONG_PASSPHRASE: &str = "incorrect passphrase";

/// The path of a private key, if it lies outside of the repository, and others cannot read it.
pub(super) fn private_key(path: &Path) -> Result<PathBuf, String> {
    let whole =
        |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
    let (key, root) = (whole(path)?, whole(Path::new(ROOT))?);
    if key.starts_with(&root) {
        return Err(format!("{}: a key must lie outside of the repository", key.display()));
    }
    let wrong = |error: std::io::Error| format!("{}: {error}", key.display());
    if !is_private(&fs::read(&key).map_err(wrong)?) {
        return Err(format!("{}: this is no private key of ssh", key.display()));
    }
    // ssh-keygen would refuse it in the end.
    if fs::metadata(&key).map_err(wrong)?.permissions().mode() & 0o077 != 0 {
        let path = key.display();
        return Err(format!("{path}: others may use this key; run: chmod 600 {path}"));
    }
    Ok(key)
}

/// Whether a file has a private key, by its first line. A public one has its type there.
fn is_private(bytes: &[u8]) -> bool {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    first.starts_with(b"-----BEGIN ") && first.ends_with(b"PRIVATE KEY-----")
}

/// Checks that there is ssh-keygen, and that it can use a private key. Only the signature asks for
/// a passphrase.
pub(super) fn check_key(key: &Path) -> Result<(), String> {
    let mut show = Command::new(keygen()?);
    show.args(["-y", "-P", "", "-f"]).arg(key);
    match output(&mut show).map_err(|error| error.to_string()) {
        Err(error) if !error.contains(WRONG_PASSPHRASE) => Err(error),
        _ => Ok(()),
    }
}

/// The path of ssh-keygen. Where this machine lacks it, it is unpacked into the cache.
fn keygen() -> Result<PathBuf, String> {
    match panoptes_needs::check::program("ssh-keygen") {
        Some(path) => Ok(path),
        None => Ok(boxes::NETWORK_TOOLS.obtain()?.join("ssh-keygen")),
    }
}

/// Writes the sums of all files of the page. `must_be_whole` refuses a page that lacks a file of a
/// release, or has another one.
pub(super) fn sum(page: &Path, must_be_whole: bool) -> Result<(), String> {
    remove(page)?;
    let names = names(page)?;
    if names.is_empty() {
        return Err(format!("{} has no files", page.display()));
    }
    if must_be_whole {
        check_names(&names)?;
    }
    let sums = sums(page, &names)?;
    cache::write(&page.join(SUMS), sums.as_bytes())?;
    println!("{SUMS}: {} files", names.len());
    Ok(())
}

/// Signs the sums of a whole page.
pub(super) fn sign(page: &Path, key: &Path) -> Result<(), String> {
    // A trial of an hour may lie between the sums and this.
    check(page)?;
    check_names(&names(page)?)?;
    let mut sign = Command::new(keygen()?);
    sign.current_dir(page).args(["-Y", "sign", "-n", NAMESPACE, "-f"]).arg(key).arg(SUMS);
    // It may ask for the passphrase.
    cargo::must(&mut sign, "ssh-keygen")?;
    check_signature(page)
}

/// Removes the sums and their signature.
pub(super) fn remove(page: &Path) -> Result<(), String> {
    for name in [SUMS, SIGNATURE] {
        let path = page.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{}: {e}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks the sums, that each file has one, and the signature if there is one.
pub(super) fn check(page: &Path) -> Result<(), String> {
    let path = page.join(SUMS);
    let written = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let names = names(page)?;
    let found = sums(page, &names)?;
    if written != found {
        return Err(format!("{SUMS} has\n{written}and the page has\n{found}"));
    }
    println!("{} files have the sums of {SUMS}", names.len());
    if page.join(SIGNATURE).exists() { check_signature(page) } else { Ok(()) }
}

/// Whether the signature is one of the sums, by whatever key.
fn check_signature(page: &Path) -> Result<(), String> {
    let sums = File::open(page.join(SUMS)).map_err(|error| format!("{SUMS}: {error}"))?;
    let mut verify = Command::new(keygen()?);
    verify.current_dir(page).args(["-Y", "check-novalidate", "-n", NAMESPACE, "-s", SIGNATURE]);
    let succeeds = cargo::succeeds(verify.stdin(sums))?;
    succeeds.then_some(()).ok_or_else(|| format!("{SIGNATURE} is no signature of {SUMS}"))
}

/// The files of the page that have sums, in the order of their names.
fn names(page: &Path) -> Result<Vec<String>, String> {
    let paths = cache::list(page)?;
    let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
    Ok(names.filter(|name| ![SUMS, SIGNATURE].contains(name)).map(str::to_owned).collect())
}

/// Compares the files of a page with those that a release has.
fn check_names(names: &[String]) -> Result<(), String> {
    let builds = ReleaseStep::ALL.into_iter().filter(|step| step.is_build());
    let expected: BTreeSet<String> = builds.flat_map(ReleaseStep::files).collect();
    let names: BTreeSet<String> = names.iter().cloned().collect();
    if names == expected {
        return Ok(());
    }
    let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    let (lacking, extra) = (list(&expected - &names), list(&names - &expected));
    Err(format!("the page is no whole release; it lacks: {lacking}; it has also: {extra}"))
}

/// The sums of these files, one a line, as sha256sum(1) writes and checks them.
fn sums(page: &Path, names: &[String]) -> Result<String, String> {
    let mut text = String::new();
    for name in names {
        let path = page.join(name);
        let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        for byte in digest {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = writeln!(text, "  {name}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use panoptes_needs::skip;

    use super::*;
    use crate::folders::Temporary;

    #[test]
    fn sums_are_those_of_sha256sum() {
        let folder = Temporary::new("release-sha256").expect("there is room");
        fs::write(folder.0.join("a"), "abc").expect("there is room");
        // FIPS 180-2, B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n";
        assert_eq!(sums(&folder.0, &["a".to_owned()]), Ok(expected.to_owned()));
        assert!(sums(&folder.0, &["b".to_owned()]).is_err());
    }

    #[test]
    fn a_key_in_the_repository_is_refused() {
        let inside = private_key(&Path::new(ROOT).join("LICENSE")).unwrap_err();
        assert!(inside.ends_with("outside of the repository"), "{inside}");
        assert!(private_key(Path::new("/nowhere/key")).is_err());
        let folder = Temporary::new("release-key").expect("there is room");
        let key = folder.0.join("key");
        let private_key_of = |text: &str, mode: u32| {
            fs::write(&key, text).expect("there is room");
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("it exists");
            private_key(&key)
        };
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
        assert!(private_key_of(private, 0o600).is_ok());
        let open = private_key_of(private, 0o640).unwrap_err();
        assert!(open.contains("run: chmod 600 "), "{open}");
        for other in ["", "ssh-ed25519 AAAA\n", "-----BEGIN PUBLIC KEY-----\n"] {
            let other = private_key_of(other, 0o600).unwrap_err();
            assert!(other.ends_with("no private key of ssh"), "{other}");
        }
        assert!(private_key(&folder.0).is_err());
    }

    /// A new key of ssh-keygen's with this passphrase, in a folder.
    fn new_key(folder: &Temporary, passphrase: &str) -> PathBuf {
        let key = folder.0.join("new");
        let mut make = Command::new(keygen().expect("this machine has it"));
        make.args(["-q", "-t", "ed25519", "-N", passphrase, "-f"]).arg(&key);
        output(&mut make).expect("it makes a key");
        key
    }

    #[test]
    fn a_key_is_tried_without_its_passphrase() {
        if !skip::has("ssh-keygen") {
            return;
        }
        let folder = Temporary::new("release-passphrase").expect("there is room");
        let key = new_key(&folder, "of the test");
        assert_eq!(private_key(&key).and_then(|key| check_key(&key)), Ok(()));
        let public = private_key(&key.with_extension("pub")).unwrap_err();
        assert!(public.ends_with("no private key of ssh"), "{public}");
        let cut = fs::read(&key).expect("it exists");
        fs::write(&key, &cut[..cut.len() / 2]).expect("there is room");
        assert!(private_key(&key).and_then(|key| check_key(&key)).is_err());
    }

    #[test]
    fn a_signature_is_of_these_sums_alone() {
        if !skip::has("ssh-keygen") {
            return;
        }
        let (page, files) = whole_page("release-signed");
        let folder = Temporary::new("release-signer").expect("there is room");
        let key = new_key(&folder, "");
        assert_eq!(check_key(&key), Ok(()));
        assert_eq!(sum(&page.0, true), Ok(()));
        assert_eq!(sign(&page.0, &key), Ok(()));
        assert!(page.0.join(SIGNATURE).is_file());
        assert_eq!(check(&page.0), Ok(()));
        let changed = page.0.join(&files[0]);
        fs::write(&changed, "changed").expect("there is room");
        assert!(check(&page.0).unwrap_err().starts_with(SUMS));
        // With sums that fit the change, the signature does not fit.
        let changed_sums = names(&page.0).and_then(|names| sums(&page.0, &names));
        fs::write(page.0.join(SUMS), changed_sums.expect("the files exist")).expect("room");
        let error = check(&page.0).unwrap_err();
        assert!(error.ends_with("is no signature of SHA256SUMS"), "{error}");
    }

    #[test]
    fn each_file_of_a_page_must_have_its_sum() {
        let folder = Temporary::new("release-sums").expect("there is room");
        assert!(sum(&folder.0, false).is_err());
        for name in ["a.deb", "b.rpm"] {
            fs::write(folder.0.join(name), name).expect("there is room");
        }
        sum(&folder.0, false).expect("there is room");
        assert_eq!(check(&folder.0), Ok(()));
        fs::write(folder.0.join("b.rpm"), "other").expect("there is room");
        assert!(check(&folder.0).is_err());
        fs::write(folder.0.join("b.rpm"), "b.rpm").expect("there is room");
        fs::write(folder.0.join("c"), "").expect("there is room");
        assert!(check(&folder.0).is_err());
    }

    /// A page with each file of a release, and their names.
    fn whole_page(name: &str) -> (Temporary, Vec<String>) {
        let folder = Temporary::new(name).expect("there is room");
        let builds = ReleaseStep::ALL.into_iter().filter(|step| step.is_build());
        let names: Vec<String> = builds.flat_map(ReleaseStep::files).collect();
        for name in &names {
            fs::write(folder.0.join(name), name).expect("there is room");
        }
        (folder, names)
    }

    #[test]
    fn only_a_whole_page_is_signed() {
        let (folder, names) = whole_page("release-whole");
        assert_eq!(sum(&folder.0, true), Ok(()));
        fs::write(folder.0.join("old.deb"), "").expect("there is room");
        let error = sum(&folder.0, true).unwrap_err();
        assert!(error.ends_with("it lacks: ; it has also: old.deb"), "{error}");
        fs::remove_file(folder.0.join(&names[0])).expect("it exists");
        let error = sum(&folder.0, true).unwrap_err();
        let expected = format!("it lacks: {}; it has also: old.deb", names[0]);
        assert!(error.ends_with(&expected), "{error}");
        // No key is asked for a part of a page.
        assert_eq!(sum(&folder.0, false), Ok(()));
        let error = sign(&folder.0, Path::new("/nowhere/key")).unwrap_err();
        assert!(error.ends_with(&expected), "{error}");
    }
}
