//! State that outlives the program: the `boot_uuid` of every watched boot.
//!
//! A boot is identified by values that its kernel can't change ([`BootKey`]), and by the system in
//! which it runs: clones of one snapshot have the same kernel values. Its id is chosen once and
//! kept in a small file, so that it is the same after a restart of Panoptes. Each kernel's boot has
//! its own file, so a damaged file loses only the ids of one boot and its clones. Without a
//! writable folder, ids are valid for one run only, and a warning reports it.
//!
//! A file has the id of the first system (`boot_uuid`) and those of all systems (`systems`). Older
//! files have only the first: the system that asks first takes it over.
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

use crate::config::{Service, printable};
use crate::message::Messages;

/// The values that identify one boot of one kernel in one system.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct BootKey {
    pub build_id: Vec<u8>,
    /// `KERNELOFFSET`: the random offset of the kernel in this boot.
    pub kernel_offset: u64,
    /// The random base of the direct map in this boot.
    pub direct_map_base: u64,
    /// When pid 1 started, in nanoseconds of the boot clock.
    pub init_start_ns: u64,
    /// What distinguishes the system from others. It outlives a restart of the system's process.
    pub system: String,
}

impl BootKey {
    /// The values of the kernel as a file name: hexadecimal throughout, so that no kernel can name
    /// another file.
    fn file_name(&self) -> String {
        let Self { build_id, kernel_offset, direct_map_base, init_start_ns, system: _ } = self;
        // The longest build id in use has 32 bytes.
        let build_id = Hex(build_id.get(..64).unwrap_or(build_id));
        format!("{build_id}-{kernel_offset:x}-{direct_map_base:x}-{init_start_ns:x}.json")
    }
}

/// An id that this run has returned.
#[derive(Clone, Debug)]
struct AssignedBootId {
    uuid: Uuid,
    /// The address of the system that has it.
    address: String,
}

/// The store for the ids of boots.
#[derive(Debug)]
pub struct BootIds {
    /// The folder of the files; `None` if it can't be used.
    folder: Option<PathBuf>,
    /// The ids that this run has returned: they never change during the run.
    given: Mutex<BTreeMap<BootKey, AssignedBootId>>,
    messages: Arc<Messages>,
    /// What failed since the last [`Self::take_problems`].
    problems: Mutex<Vec<String>>,
}

impl BootIds {
    /// Opens the store in `folder`, which is created if it does not exist.
    pub fn open(folder: &Path, messages: Arc<Messages>) -> Self {
        let boots = folder.join(BOOTS);
        // Other users need not know which kernels are watched.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&boots);
        let mut store = Self::ephemeral(messages);
        match made {
            Ok(()) => store.folder = Some(boots),
            Err(error) => store.warn(format!(
                "the state folder {} can't be used ({error}): boot_uuid will change when panoptes \
                 restarts; set service.state_dir",
                folder.display()
            )),
        }
        store
    }

    /// A store that is only valid for this run.
    pub fn ephemeral(messages: Arc<Messages>) -> Self {
        Self { folder: None, given: Mutex::default(), messages, problems: Mutex::default() }
    }

    /// What failed since the last call; a message was written of each.
    pub fn take_problems(&self) -> Vec<String> {
        std::mem::take(&mut self.problems.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn warn(&self, text: String) {
        self.messages.warning(&text);
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < PROBLEMS_MAX {
            problems.push(text);
        }
    }

    /// The id of a boot in the system at `address`: the stored one, or a new one. `is_watched`
    /// returns whether the system at another address is being watched: two systems that run at the
    /// same time never share an id, whatever their keys claim.
    pub fn boot_uuid(
        &self,
        key: &BootKey,
        address: &str,
        is_watched: &dyn Fn(&str) -> bool,
    ) -> Uuid {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = key.clone();
        if given.get(&key).is_some_and(|one| one.address != address && is_watched(&one.address)) {
            key.system = format!("{} at {address}", key.system);
        }
        if let Some(one) = given.get_mut(&key) {
            address.clone_into(&mut one.address);
            return one.uuid;
        }
        let uuid = self.kept_or_new(&key);
        given.insert(key, AssignedBootId { uuid, address: address.to_owned() });
        uuid
    }

    fn kept_or_new(&self, key: &BootKey) -> Uuid {
        let kept = self.folder.as_deref().map(|folder| self.kept(folder, key));
        match kept {
            Some(Ok(uuid)) => uuid,
            Some(Err(error)) => {
                self.warn(format!(
                    "the state folder can't be used ({error}): this boot_uuid will change when \
                     panoptes restarts"
                ));
                Uuid::new_v4()
            }
            None => Uuid::new_v4(),
        }
    }

    fn kept(&self, folder: &Path, key: &BootKey) -> io::Result<Uuid> {
        // Two processes of Panoptes that first see a boot at the same time must use the same id.
        let _lock = lock(folder)?;
        let path = folder.join(key.file_name());
        let mut ids = match read_bounded(&path) {
            Ok(text) => {
                let ids = KernelBootIds::parse(&text);
                if ids.is_none() {
                    self.set_aside(&path)?;
                }
                ids.unwrap_or_default()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => KernelBootIds::default(),
            Err(error) => return Err(error),
        };
        if let Some(uuid) = ids.of(&key.system) {
            // Keep ids in use from being the oldest (`forget_oldest`).
            let _ = File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(uuid);
        }
        let uuid = ids.add(&key.system)?;
        write_atomically(folder, &path, &ids.render(key))?;
        forget_oldest(folder)?;
        Ok(uuid)
    }

    fn set_aside(&self, path: &Path) -> io::Result<()> {
        let aside = path.with_extension("damaged");
        fs::rename(path, &aside)?;
        self.warn(format!(
            "{} is damaged: it was set aside as {}, and the boot gets a new boot_uuid",
            printable(&path.to_string_lossy()),
            printable(&aside.file_name().unwrap_or_default().to_string_lossy()),
        ));
        Ok(())
    }
}

/// The folder for what outlives a restart: the configured one, or [`default_folder`].
pub(crate) fn folder_of(service: &Service) -> Option<PathBuf> {
    service.state_dir.clone().or_else(default_folder)
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

/// The ids of one kernel's boot, in the systems that continue it.
#[derive(Debug, Default)]
struct KernelBootIds {
    first: Option<Uuid>,
    /// Id of the boot in each system, by [`BootKey::system`].
    systems: BTreeMap<String, Uuid>,
}

impl KernelBootIds {
    /// `None` if the text is not that of a whole file.
    fn parse(text: &[u8]) -> Option<Self> {
        let object: Value = serde_json::from_slice(text).ok()?;
        let uuid =
            |value: &Value| Uuid::parse_str(value.as_str()?).ok().filter(|uuid| !uuid.is_nil());
        let first = Some(uuid(object.get("boot_uuid")?)?);
        let systems = match object.get("systems") {
            None => BTreeMap::new(),
            Some(systems) => systems
                .as_object()?
                .iter()
                .map(|(system, value)| Some((system.clone(), uuid(value)?)))
                .collect::<Option<_>>()?,
        };
        Some(Self { first, systems })
    }

    fn of(&self, system: &str) -> Option<Uuid> {
        self.systems.get(system).copied()
    }

    /// Adds a system. The first one takes over the id of a file that knows no systems.
    fn add(&mut self, system: &str) -> io::Result<Uuid> {
        if self.systems.len() >= SYSTEMS_MAX {
            let message = format!("{SYSTEMS_MAX} other systems continue the same boot");
            return Err(io::Error::other(message));
        }
        let of_older = self.first.filter(|_| self.systems.is_empty());
        let uuid = of_older.unwrap_or_else(Uuid::new_v4);
        self.first.get_or_insert(uuid);
        self.systems.insert(system.to_owned(), uuid);
        Ok(uuid)
    }

    fn render(&self, key: &BootKey) -> String {
        let build_id = key.file_name();
        let build_id = build_id.split('-').next().unwrap_or_default();
        let ids = self.systems.iter();
        let systems: BTreeMap<_, _> = ids.map(|(name, uuid)| (name, uuid.to_string())).collect();
        let object = json!({
            "boot_uuid": self.first.map(|uuid| uuid.to_string()),
            "build_id": build_id,
            "kernel_offset": format!("{:#x}", key.kernel_offset),
            "direct_map_base": format!("{:#x}", key.direct_map_base),
            "init_start_ns": key.init_start_ns,
            "systems": systems,
        });
        format!("{object}\n")
    }
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
/// Problems that are kept until they are reported.
const PROBLEMS_MAX: usize = 16;
/// Maximum number of systems that continue one boot.
const SYSTEMS_MAX: usize = 256;
/// [`SYSTEMS_MAX`] addresses of files of 4 KiB each.
const FILE_BYTES_MAX: u64 = 2 << 20;

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
            system: "qemu user 107 uuid - name web".to_owned(),
        }
    }

    fn key_of(system: &str) -> BootKey {
        BootKey { system: system.to_owned(), ..key(1) }
    }

    /// The id of a boot in a system that runs alone.
    fn id(store: &BootIds, key: &BootKey) -> Uuid {
        store.boot_uuid(key, "qemu:1", &|_| false)
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
        let first = id(&BootIds::open(&state, Arc::clone(&messages)), &key(1));
        let store = BootIds::open(&state, messages);
        assert_eq!(id(&store, &key(1)), first);
        assert_eq!(id(&store, &key(1)), first);
        assert_ne!(id(&store, &key(2)), first);
        assert_eq!(fs::read_to_string(said).unwrap(), "");
        let mode = fs::metadata(state.join(BOOTS)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn clones_of_one_snapshot_have_different_ids_over_restarts() {
        let folder = tempdir().unwrap();
        let (messages, said) = messages(folder.path());
        let store = BootIds::open(folder.path(), Arc::clone(&messages));
        let first = id(&store, &key_of("qemu user 107 uuid A name web"));
        let second = id(&store, &key_of("qemu user 107 uuid B name web"));
        let third = id(&store, &key_of("qemu user 1000 uuid A name web"));
        assert!(first != second && first != third && second != third);
        let store = BootIds::open(folder.path(), messages);
        assert_eq!(id(&store, &key_of("qemu user 1000 uuid A name web")), third);
        assert_eq!(id(&store, &key_of("qemu user 107 uuid B name web")), second);
        assert_eq!(id(&store, &key_of("qemu user 107 uuid A name web")), first);
        assert_eq!(fs::read_to_string(said).unwrap(), "");
    }

    /// What 0.1 wrote, before systems were part of a key.
    #[test]
    fn a_file_of_an_older_version_keeps_its_id() {
        let folder = tempdir().unwrap();
        let (messages, said) = messages(folder.path());
        let old = "5f0e5a63-7a52-4d0b-9a39-3a5e0a4c6b11";
        let boots = folder.path().join(BOOTS);
        fs::create_dir(&boots).unwrap();
        let text = format!(
            "{{\"boot_uuid\":\"{old}\",\"build_id\":\"abab\",\"direct_map_base\":\"0x1\",\
             \"init_start_ns\":1,\"kernel_offset\":\"0x2\"}}\n"
        );
        fs::write(boots.join(key(1).file_name()), text).unwrap();
        let store = BootIds::open(folder.path(), Arc::clone(&messages));
        assert_eq!(id(&store, &key_of("a")).to_string(), old);
        let clone = id(&store, &key_of("b"));
        assert_ne!(clone.to_string(), old);
        let store = BootIds::open(folder.path(), messages);
        assert_eq!(id(&store, &key_of("b")), clone);
        assert_eq!(id(&store, &key_of("a")).to_string(), old);
        // An older version still finds the first id.
        let text = fs::read(boots.join(key(1).file_name())).unwrap();
        let object: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(object["boot_uuid"], old);
        assert_eq!(fs::read_to_string(said).unwrap(), "");
    }

    /// Two guests with the same arguments run at the same time; one is saved and restored.
    #[test]
    fn systems_that_claim_the_same_are_told_apart_by_their_addresses() {
        let folder = tempdir().unwrap();
        let (messages, _) = messages(folder.path());
        let store = BootIds::open(folder.path(), messages);
        let all = |_: &str| true;
        let first = store.boot_uuid(&key(1), "qemu:1", &all);
        let second = store.boot_uuid(&key(1), "qemu:2", &all);
        assert_ne!(first, second);
        assert_eq!(store.boot_uuid(&key(1), "qemu:1", &all), first);
        assert_eq!(store.boot_uuid(&key(1), "qemu:2", &all), second);
        // The first one has ended and continues in another process.
        assert_eq!(store.boot_uuid(&key(1), "qemu:3", &|address| address != "qemu:1"), first);
        assert_eq!(store.boot_uuid(&key(1), "qemu:3", &all), first);
    }

    #[test]
    fn clones_without_end_do_not_fill_a_file() {
        let folder = tempdir().unwrap();
        let (messages, said) = messages(folder.path());
        let mut ids = KernelBootIds::default();
        (0..SYSTEMS_MAX).for_each(|number| _ = ids.add(&number.to_string()).unwrap());
        let boots = folder.path().join(BOOTS);
        fs::create_dir(&boots).unwrap();
        fs::write(boots.join(key(1).file_name()), ids.render(&key(1))).unwrap();
        let store = BootIds::open(folder.path(), messages);
        let uuid = id(&store, &key(1));
        assert_eq!(id(&store, &key(1)), uuid);
        assert_eq!(Some(id(&store, &key_of("7"))), ids.of("7"));
        assert!(fs::read_to_string(said).unwrap().contains("256 other systems"));
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_reported() {
        let id_text = "5f0e5a63-7a52-4d0b-9a39-3a5e0a4c6b11";
        let list = format!("{{\"boot_uuid\": \"{id_text}\", \"systems\": {{\"a\": 5}}}}");
        for damage in ["", "{", "{\"boot_uuid\": 5}", "\0\0\0\0", &list] {
            let folder = tempdir().unwrap();
            let (messages, said) = messages(folder.path());
            let first = id(&BootIds::open(folder.path(), Arc::clone(&messages)), &key(1));
            let path = folder.path().join(BOOTS).join(key(1).file_name());
            fs::write(&path, damage).unwrap();
            let store = BootIds::open(folder.path(), Arc::clone(&messages));
            let second = id(&store, &key(1));
            assert_ne!(second, first);
            assert_eq!(fs::read_to_string(path.with_extension("damaged")).unwrap(), damage);
            assert!(fs::read_to_string(said).unwrap().contains("is damaged"));
            let third = id(&BootIds::open(folder.path(), messages), &key(1));
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
        assert_eq!(id(&store, &key(1)), id(&store, &key(1)));
        assert!(fs::read_to_string(said).unwrap().contains("can't be used"));
    }

    #[test]
    fn a_folder_that_breaks_later_is_reported_too() {
        let folder = tempdir().unwrap();
        let (messages, said) = messages(folder.path());
        let store = BootIds::open(folder.path(), messages);
        fs::remove_dir_all(folder.path().join(BOOTS)).unwrap();
        assert_eq!(id(&store, &key(1)), id(&store, &key(1)));
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
                    scope.spawn(move || id(&BootIds::open(path, messages), &key(7)))
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
        id(&BootIds::open(folder.path(), messages), &key(1));
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
