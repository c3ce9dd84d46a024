//! State that outlives the program: the `boot_uuid` of every watched boot.
//!
//! A boot is identified by values that its kernel can't change ([`BootKey`]). Its id is chosen once
//! and kept in a small file, so that it is the same after a restart of Panoptes. Each boot has its
//! own file, so a damaged file loses only one id. Without a writable folder, ids are valid for one
//! run only, and a warning reports it.
//!
//! Not for: objects that are tracked during a run (the engine's state).

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use panoptes_decoders::text::Hex;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::printable;
use crate::message::Messages;

/// The values that identify one boot of one kernel.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct BootKey {
    pub build_id: Vec<u8>,
    /// `KERNELOFFSET`: the random offset of the kernel in this boot.
    pub kernel_offset: u64,
    /// The random base of the direct map in this boot.
    pub direct_map_base: u64,
    /// When pid 1 started, in nanoseconds of the boot clock.
    pub init_start_ns: u64,
}

impl BootKey {
    /// The key as a file name: hexadecimal throughout, so that no kernel can name another file.
    fn file_name(&self) -> String {
        let Self { build_id, kernel_offset, direct_map_base, init_start_ns } = self;
        // The longest build id in use has 32 bytes.
        let build_id = Hex(build_id.get(..64).unwrap_or(build_id));
        format!("{build_id}-{kernel_offset:x}-{direct_map_base:x}-{init_start_ns:x}.json")
    }
}

/// The store for the ids of boots.
#[derive(Debug)]
pub struct BootIds {
    /// The folder of the files; `None` if it can't be used.
    folder: Option<PathBuf>,
    /// The ids that this run has returned: they never change during the run.
    given: Mutex<BTreeMap<BootKey, Uuid>>,
    messages: Arc<Messages>,
}

impl BootIds {
    /// Opens the store in `folder`, which is created if it does not exist.
    pub fn open(folder: &Path, messages: Arc<Messages>) -> Self {
        let boots = folder.join(BOOTS);
        // Other users need not know which kernels are watched.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&boots);
        let folder = match made {
            Ok(()) => Some(boots),
            Err(error) => {
                messages.warning(format_args!(
                    "the state folder {} can't be used ({error}): boot_uuid will change when \
                     panoptes restarts; set service.state_dir",
                    folder.display()
                ));
                None
            }
        };
        Self { folder, given: Mutex::default(), messages }
    }

    /// A store that is only valid for this run.
    pub fn ephemeral(messages: Arc<Messages>) -> Self {
        Self { folder: None, given: Mutex::default(), messages }
    }

    /// The id of a boot: the stored one, or a new one.
    pub fn boot_uuid(&self, key: &BootKey) -> Uuid {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(uuid) = given.get(key) {
            return *uuid;
        }
        let kept = self.folder.as_deref().map(|folder| self.kept(folder, key));
        let uuid = match kept {
            Some(Ok(uuid)) => uuid,
            Some(Err(error)) => {
                self.messages.warning(format_args!(
                    "the state folder can't be used ({error}): this boot_uuid will change when \
                     panoptes restarts"
                ));
                Uuid::new_v4()
            }
            None => Uuid::new_v4(),
        };
        given.insert(key.clone(), uuid);
        uuid
    }

    fn kept(&self, folder: &Path, key: &BootKey) -> io::Result<Uuid> {
        // Two processes of Panoptes that first see a boot at the same time must use the same id.
        let _lock = lock(folder)?;
        let path = folder.join(key.file_name());
        match read_bounded(&path) {
            Ok(text) => {
                if let Some(uuid) = parse(&text) {
                    // Keep ids in use from being the oldest (`forget_oldest`).
                    let _ = File::options()
                        .write(true)
                        .open(&path)
                        .and_then(|file| file.set_modified(SystemTime::now()));
                    return Ok(uuid);
                }
                self.set_aside(&path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let uuid = Uuid::new_v4();
        write_atomically(folder, &path, &render(key, uuid))?;
        forget_oldest(folder)?;
        Ok(uuid)
    }

    fn set_aside(&self, path: &Path) -> io::Result<()> {
        let aside = path.with_extension("damaged");
        fs::rename(path, &aside)?;
        self.messages.warning(format_args!(
            "{} is damaged: it was set aside as {}, and the boot gets a new boot_uuid",
            printable(&path.to_string_lossy()),
            printable(&aside.file_name().unwrap_or_default().to_string_lossy()),
        ));
        Ok(())
    }
}

/// The default folder for state: `/var/lib/panoptes` for root, else `panoptes` in `$XDG_STATE_HOME`
/// or `~/.local/state`; `None` without a home.
pub fn default_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    folder_for(nix::unistd::geteuid().is_root(), variable("XDG_STATE_HOME"), variable("HOME"))
}

fn folder_for(
    is_root: bool,
    state_home: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/panoptes"));
    }
    // The XDG specification requires that relative paths are ignored.
    let absolute = |path: &PathBuf| path.is_absolute();
    state_home
        .filter(absolute)
        .or_else(|| Some(home.filter(absolute)?.join(".local/state")))
        .map(|folder| folder.join("panoptes"))
}

fn render(key: &BootKey, uuid: Uuid) -> String {
    let build_id = key.file_name();
    let build_id = build_id.split('-').next().unwrap_or_default();
    let object = json!({
        "boot_uuid": uuid.to_string(),
        "build_id": build_id,
        "kernel_offset": format!("{:#x}", key.kernel_offset),
        "direct_map_base": format!("{:#x}", key.direct_map_base),
        "init_start_ns": key.init_start_ns,
    });
    format!("{object}\n")
}

fn parse(text: &[u8]) -> Option<Uuid> {
    let object: Value = serde_json::from_slice(text).ok()?;
    Uuid::parse_str(object.get("boot_uuid")?.as_str()?).ok().filter(|uuid| !uuid.is_nil())
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file so that it exists completely or not at all, even after a failure.
fn write_atomically(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

/// Locks the folder against other processes of Panoptes; the lock is released on drop.
fn lock(folder: &Path) -> io::Result<File> {
    let path = folder.join(".lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    for _ in 0..LOCK_ATTEMPTS_MAX {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => sleep(LOCK_WAIT),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another panoptes holds its lock"))
}

/// Removes the oldest files, so that a machine that reboots endlessly can't fill the folder.
fn forget_oldest(folder: &Path) -> io::Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let path = entry.path();
            let is_state = path.extension().is_some_and(|end| end == "json" || end == "damaged");
            if is_state { Some((entry.metadata().ok()?.modified().ok()?, path)) } else { None }
        })
        .collect();
    files.sort_unstable();
    let surplus = files.len().saturating_sub(BOOT_COUNT_MAX);
    for (_, path) in &files[..surplus] {
        fs::remove_file(path)?;
    }
    Ok(())
}

const BOOTS: &str = "boots";
const BOOT_COUNT_MAX: usize = 4096;
const FILE_BYTES_MAX: u64 = 4096;

/// Holding the lock takes a few milliseconds; after two seconds something is wrong.
const LOCK_WAIT: Duration = Duration::from_millis(10);
const LOCK_ATTEMPTS_MAX: u32 = 200;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use tempfile::tempdir;

    use super::*;
    use crate::config::LogLevel;

    fn key(init_start_ns: u64) -> BootKey {
        BootKey {
            build_id: vec![0xab; 20],
            kernel_offset: 0x1e00_0000,
            direct_map_base: 0xffff_8881_0000_0000,
            init_start_ns,
        }
    }

    /// Messages into a file, and its path.
    fn messages(folder: &Path) -> (Arc<Messages>, PathBuf) {
        let path = folder.join("said");
        let file = File::create(&path).unwrap();
        (Arc::new(Messages::new(Box::new(file), false, LogLevel::Trace)), path)
    }

    #[test]
    fn a_boot_keeps_its_id_over_restarts() {
        let folder = tempdir().unwrap();
        let (messages, said) = messages(folder.path());
        let state = folder.path().join("deep/state");
        let first = BootIds::open(&state, Arc::clone(&messages)).boot_uuid(&key(1));
        let store = BootIds::open(&state, messages);
        assert_eq!(store.boot_uuid(&key(1)), first);
        assert_eq!(store.boot_uuid(&key(1)), first);
        assert_ne!(store.boot_uuid(&key(2)), first);
        assert_eq!(fs::read_to_string(said).unwrap(), "");
        let mode = fs::metadata(state.join(BOOTS)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_reported() {
        for damage in ["", "{", "{\"boot_uuid\": 5}", "\0\0\0\0"] {
            let folder = tempdir().unwrap();
            let (messages, said) = messages(folder.path());
            let first = BootIds::open(folder.path(), Arc::clone(&messages)).boot_uuid(&key(1));
            let path = folder.path().join(BOOTS).join(key(1).file_name());
            fs::write(&path, damage).unwrap();
            let store = BootIds::open(folder.path(), Arc::clone(&messages));
            let second = store.boot_uuid(&key(1));
            assert_ne!(second, first);
            assert_eq!(fs::read_to_string(path.with_extension("damaged")).unwrap(), damage);
            assert!(fs::read_to_string(said).unwrap().contains("is damaged"));
            let third = BootIds::open(folder.path(), messages).boot_uuid(&key(1));
            assert_eq!(third, second);
        }
    }

    #[test]
    fn without_a_folder_ids_hold_for_this_run() {
        let folder = tempdir().unwrap();
        let (messages, said) = messages(folder.path());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let store = BootIds::open(&file, messages);
        assert_eq!(store.boot_uuid(&key(1)), store.boot_uuid(&key(1)));
        assert!(fs::read_to_string(said).unwrap().contains("can't be used"));
    }

    #[test]
    fn a_folder_that_breaks_later_is_reported_too() {
        let folder = tempdir().unwrap();
        let (messages, said) = messages(folder.path());
        let store = BootIds::open(folder.path(), messages);
        fs::remove_dir_all(folder.path().join(BOOTS)).unwrap();
        assert_eq!(store.boot_uuid(&key(1)), store.boot_uuid(&key(1)));
        let said = fs::read_to_string(said).unwrap();
        assert_eq!(said.matches("will change").count(), 1, "{said}");
    }

    #[test]
    fn many_that_see_a_boot_at_once_agree() {
        let folder = tempdir().unwrap();
        let (messages, _) = messages(folder.path());
        let path = folder.path();
        let ids: Vec<Uuid> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let messages = Arc::clone(&messages);
                    scope.spawn(move || BootIds::open(path, messages).boot_uuid(&key(7)))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn no_half_written_file_is_left() {
        let folder = tempdir().unwrap();
        let (messages, _) = messages(folder.path());
        BootIds::open(folder.path(), messages).boot_uuid(&key(1));
        let mut names: Vec<String> = fs::read_dir(folder.path().join(BOOTS))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [".lock".to_owned(), key(1).file_name()]);
    }

    #[test]
    fn a_hostile_build_id_cannot_leave_the_folder() {
        let mut hostile = key(1);
        hostile.build_id = b"../../../../etc/passwd\0".repeat(50);
        let name = hostile.file_name();
        assert!(name.len() < 255 && !name.contains('/'), "{name}");
    }

    #[test]
    fn the_usual_place_depends_on_who_asks() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(folder_for(true, path("/s"), path("/h")), path("/var/lib/panoptes"));
        assert_eq!(folder_for(false, path("/s"), path("/h")), path("/s/panoptes"));
        assert_eq!(folder_for(false, path("s"), path("/h")), path("/h/.local/state/panoptes"));
        assert_eq!(folder_for(false, None, None), None);
    }
}
