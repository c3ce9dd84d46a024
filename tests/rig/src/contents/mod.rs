//! The truth about files' content: files of all sizes on every filesystem, what they hold and which of their
//! pages are in memory, told from inside.
//!
//! A [`Course`] is one guest with its disks. At each [`Place`] it makes the files, has a process hold them, and
//! stops the guest at some [`Moment`]s, at which somebody outside may look: when all was read, when pages were
//! taken out of the page cache, when some files were changed. What is seen is compared elsewhere.

pub mod made;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

pub use made::Made;

use crate::cache;
use crate::disk::{self, Disk, Format};
use crate::error::{Error, Result};
use crate::guest::{Guest, GuestSpec};
use crate::kernel::Kernel;

/// Where files are.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// ext4
    Ext4,
    /// ext4 that keeps the smallest files inside their inodes.
    Ext4Inline,
    /// XFS
    Xfs,
    /// Btrfs
    Btrfs,
    /// Btrfs that compresses everything.
    BtrfsZstd,
    /// SquashFS
    Squashfs,
    /// tmpfs
    Tmpfs,
    /// tmpfs with huge pages wherever possible.
    TmpfsHuge,
    /// overlayfs: ext4 below, tmpfs above.
    Overlay,
    /// overlayfs on ext4 that copies up attributes alone, where only those change.
    OverlayMetacopy,
    /// hugetlbfs, whose pages have 2 MiB.
    Hugetlbfs,
}

impl Place {
    /// Every place. Those on overlays come after ext4, which is below them.
    pub const ALL: [Self; 11] = [
        Self::Ext4,
        Self::Ext4Inline,
        Self::Xfs,
        Self::Btrfs,
        Self::BtrfsZstd,
        Self::Squashfs,
        Self::Tmpfs,
        Self::TmpfsHuge,
        Self::Overlay,
        Self::OverlayMetacopy,
        Self::Hugetlbfs,
    ];

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4Inline => "ext4-inline",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::BtrfsZstd => "btrfs-zstd",
            Self::Squashfs => "squashfs",
            Self::Tmpfs => "tmpfs",
            Self::TmpfsHuge => "tmpfs-huge",
            Self::Overlay => "overlay",
            Self::OverlayMetacopy => "overlay-metacopy",
            Self::Hugetlbfs => "hugetlbfs",
        }
    }

    /// The place of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|place| place.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|place| place.name()).collect();
            Error::new(format!("no place {name:?}; known are: {}", known.join(", ")))
        })
    }

    /// Its kind in /proc/filesystems.
    const fn filesystem(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4Inline => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs | Self::BtrfsZstd => "btrfs",
            Self::Squashfs => "squashfs",
            Self::Tmpfs | Self::TmpfsHuge => "tmpfs",
            Self::Overlay | Self::OverlayMetacopy => "overlay",
            Self::Hugetlbfs => "hugetlbfs",
        }
    }

    /// The disk that it is on.
    const fn format(self) -> Option<Format> {
        match self {
            Self::Ext4 | Self::Ext4Inline => Some(Format::Ext4),
            Self::Xfs => Some(Format::Xfs),
            Self::Btrfs | Self::BtrfsZstd => Some(Format::Btrfs),
            Self::Squashfs => Some(Format::Squashfs),
            _ => None,
        }
    }

    /// Whether files are on an overlay, where an area that was mapped before a file was copied up keeps showing
    /// what is below.
    pub const fn is_overlay(self) -> bool {
        matches!(self, Self::Overlay | Self::OverlayMetacopy)
    }

    /// Whether files live in the page cache alone: pages that it lacks are holes, and `mincore` says of holes that they are not there.
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Tmpfs | Self::TmpfsHuge | Self::Hugetlbfs)
    }

    fn folder(self) -> String {
        format!("/mnt/{}", self.name())
    }

    /// Where its files are.
    fn files(self) -> String {
        match self {
            Self::Squashfs | Self::Overlay | Self::OverlayMetacopy => self.folder(),
            _ => format!("{}/files", self.folder()),
        }
    }
}

/// What had happened when the guest was stopped.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Every file was read to its end.
    Read,
    /// Then some pages were taken out of the page cache.
    Evicted,
    /// Then some files were changed.
    Changed,
    /// Everything was read again by a process that came later.
    ReadAgain,
    /// Then memory got scarce.
    Pressed,
}

impl Phase {
    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Evicted => "evicted",
            Self::Changed => "changed",
            Self::ReadAgain => "read again",
            Self::Pressed => "short of memory",
        }
    }
}

/// The truth about one file.
#[derive(Clone, Debug)]
pub struct FileTruth {
    /// Its path.
    pub path: String,
    /// Index of it among [`Course::files`].
    pub index: usize,
    /// Whether it was changed since it was made.
    pub changed: bool,
    /// SHA-256, SHA-1 and MD5 as hex, if the guest was asked.
    pub sums: Option<[String; 3]>,
    /// Its pages of [`Moment::page_bytes`] that are in memory, if the guest was asked.
    pub resident: Option<Vec<Range<u64>>>,
    /// Its pages that are no holes, if the guest was asked.
    pub data: Option<Vec<Range<u64>>>,
}

/// A moment at which the guest stands still.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Where the files are.
    pub place: Place,
    /// What had happened.
    pub phase: Phase,
    /// The guest's own size of pages in bytes.
    pub page_bytes: u64,
    /// All files there.
    pub files: Vec<FileTruth>,
}

/// The name of the process that holds the files open and mapped.
pub const HOLDER: &str = "hold";

/// How often it may happen that pages come or go while somebody looks.
const ATTEMPTS: u32 = 6;

/// How long what was asked of a guest takes to come to rest; each time twice as long, since a slow
/// one takes longer.
const SETTLE: Duration = Duration::from_millis(200);

const SEED: u64 = 7;

/// So many files of huge pages, and how many of these they have.
const HUGE_FILES: u32 = 6;
const HUGE_PAGES: u32 = 12;

/// Size of the disk that memory can be swapped to.
const SWAP_BYTES: u64 = 512 << 20;

/// A guest with disks and files.
#[derive(Debug)]
pub struct Course {
    guest: Guest,
    folder: PathBuf,
    files: Vec<Made>,
    huge_files: Vec<Made>,
    /// Which place's disk is which.
    disks: Vec<Place>,
    known: BTreeSet<String>,
    mounted: BTreeSet<Place>,
    presses: bool,
}

impl Drop for Course {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Course {
    /// Boots a guest for so many files at each of these places.
    pub fn boot(kernel: Kernel, places: &[Place], count: u32) -> Result<Self> {
        Self::boot_with(GuestSpec { memory_mib: 768, ..GuestSpec::new(kernel) }, places, count)
    }

    /// The same with a machine of the caller's choice.
    pub fn boot_with(mut spec: GuestSpec, places: &[Place], count: u32) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Where the next guest of anybody removes what a killed run left behind.
        let folder =
            cache::folder("guests")?.join(format!("{}-disks-{number}", std::process::id()));
        cache::create(&folder)?;
        let files: Vec<Made> = made::all(count, SEED).collect();
        let mut wanted: BTreeSet<Place> = places.iter().copied().collect();
        if places.iter().any(|place| place.is_overlay()) {
            wanted.insert(Place::Ext4);
        }
        // Below and above overlays they are once more, each.
        let bytes: u64 = files.iter().map(|file| file.content.len() as u64).sum();
        let mib = bytes * 5 / (1 << 20) + 64;
        let mut disks = Vec::new();
        for &place in &wanted {
            let Some(format) = place.format() else { continue };
            let image = folder.join(place.name());
            let tree = (format == Format::Squashfs).then(|| folder.join("tree"));
            if let Some(tree) = &tree {
                write_tree(tree, &files)?;
            }
            let options: &[&str] = match place {
                Place::Ext4Inline => &["-O", "inline_data", "-I", "512"],
                _ => &[],
            };
            disk::make(format, &image, mib, tree.as_deref(), options)?;
            spec.disks.push(Disk { image, read_only: format == Format::Squashfs });
            disks.push(place);
            let module = format.name().to_owned();
            if !spec.modules.contains(&module) {
                spec.modules.push(module);
            }
        }
        let swap = folder.join("swap");
        std::fs::File::create(&swap)
            .and_then(|file| file.set_len(SWAP_BYTES))
            .map_err(|e| Error::io("create", &swap, &e))?;
        spec.disks.push(Disk { image: swap, read_only: false });
        spec.modules.insert(0, "disk".to_owned());
        let mut guest = Guest::boot(&spec)?;
        let known = guest.agent("run sed 's/.*\\t//' /proc/filesystems")?.into_iter().collect();
        let huge_files = made::huge(HUGE_FILES, SEED).collect();
        Ok(Self {
            guest,
            folder,
            files,
            huge_files,
            disks,
            known,
            mounted: BTreeSet::new(),
            presses: false,
        })
    }

    /// From now on memory gets scarce at each place in the end, so that the kernel takes pages away itself, and
    /// swaps those of files that live in memory.
    pub fn press(&mut self) -> Result<()> {
        let swap = (b'a' + self.disks.len() as u8) as char;
        self.run(&format!(
            "/bin/busybox mkswap /dev/vd{swap} && /bin/busybox swapon /dev/vd{swap}"
        ))?;
        self.presses = true;
        Ok(())
    }

    /// The files that are at each place, as they were made.
    pub fn files(&self) -> &[Made] {
        &self.files
    }

    /// The guest.
    pub const fn guest(&mut self) -> &mut Guest {
        &mut self.guest
    }

    /// Goes to a place and calls `look` at each moment; what it returned, by phase, or why the kernel has no
    /// such place. A moment counts only if the truth is the same after it.
    pub fn visit<T>(
        &mut self,
        place: Place,
        mut look: impl FnMut(&Guest, &Moment, &[Made]) -> Result<T>,
    ) -> Result<std::result::Result<Vec<(Phase, T)>, String>> {
        if let Err(why) = self.mount(place)? {
            return Ok(Err(why));
        }
        let folder = place.files();
        let mut seen = Vec::new();
        let mut changed = BTreeSet::new();
        self.hold(&folder)?;
        let moment = self.moment(place, Phase::Read, &changed, true)?;
        seen.push((Phase::Read, self.look_at(&moment, SETTLE, &mut look)?));
        if !place.is_memory() {
            self.guest.agent(&format!("files evict {folder} seed=5"))?;
            seen.push((
                Phase::Evicted,
                self.look_again(place, Phase::Evicted, &changed, &mut look)?,
            ));
        }
        if place != Place::Squashfs && place != Place::Hugetlbfs {
            let lines = self.guest.agent(&format!("files touch {folder} every=3"))?;
            changed.extend(lines);
            seen.push((
                Phase::Changed,
                self.look_again(place, Phase::Changed, &changed, &mut look)?,
            ));
        }
        if place.is_overlay() {
            self.guest.agent("kill-all")?;
            self.hold(&folder)?;
            let moment = self.moment(place, Phase::ReadAgain, &changed, true)?;
            seen.push((Phase::ReadAgain, self.look_at(&moment, SETTLE, &mut look)?));
        }
        if self.presses && place != Place::Hugetlbfs {
            self.guest.agent("kill-all")?;
            self.hold(&folder)?;
            let (swappiness, percent) = if place.is_memory() { (100, 70) } else { (1, 60) };
            self.run(&format!("echo {swappiness} > /proc/sys/vm/swappiness"))?;
            self.guest.agent(&format!("files press {folder} percent={percent}"))?;
            seen.push((
                Phase::Pressed,
                self.look_again(place, Phase::Pressed, &changed, &mut look)?,
            ));
        }
        self.guest.agent("kill-all")?;
        Ok(Ok(seen))
    }

    fn run(&mut self, command: &str) -> Result<Vec<String>> {
        self.guest.agent(&format!("run {command}"))
    }

    /// Mounts a place and makes its files; why not, where the kernel cannot.
    fn mount(&mut self, place: Place) -> Result<std::result::Result<(), String>> {
        if self.mounted.contains(&place) {
            return Ok(Ok(()));
        }
        if !self.known.contains(place.filesystem()) {
            return Ok(Err(format!("the kernel has no {}", place.filesystem())));
        }
        let folder = place.folder();
        let device = self.disks.iter().position(|&disk| disk == place);
        let device = device.map(|index| format!("/dev/vd{}", (b'a' + index as u8) as char));
        let count = self.files.len();
        let mut made_in = place.files();
        let mount = match (place, &device) {
            (Place::Overlay | Place::OverlayMetacopy, _) => {
                if let Err(why) = self.mount(Place::Ext4)? {
                    return Ok(Err(why));
                }
                let ext4 = Place::Ext4.folder();
                made_in = format!("{ext4}/below-{}", place.name());
                let (top, more) = match place {
                    Place::Overlay => ("/tmp/overlay".to_owned(), ""),
                    _ => (format!("{ext4}/top"), ",metacopy=on,redirect_dir=on"),
                };
                self.run(&format!("mkdir -p {made_in} {top}/upper {top}/work"))?;
                let layers =
                    format!("lowerdir={made_in},upperdir={top}/upper,workdir={top}/work{more}");
                format!("mount -t overlay -o {layers} overlay {folder}")
            }
            (Place::BtrfsZstd, Some(device)) => {
                format!("mount -t btrfs -o compress-force=zstd {device} {folder}")
            }
            (_, Some(device)) => format!("mount -t {} {device} {folder}", place.filesystem()),
            (Place::TmpfsHuge, None) => format!("mount -t tmpfs -o huge=always tmpfs {folder}"),
            (_, None) => format!("mount -t {0} {0} {folder}", place.filesystem()),
        };
        let mount = format!("mkdir -p {folder} && {mount}");
        // What is below an overlay is not to change under it.
        if !place.is_overlay() {
            let mounted = self.run(&mount);
            if place == Place::TmpfsHuge && mounted.is_err() {
                return Ok(Err("the kernel has no huge pages in tmpfs".to_owned()));
            }
            mounted?;
        }
        if place == Place::Hugetlbfs {
            if let Err(why) = self.make_huge(&made_in)? {
                return Ok(Err(why));
            }
        } else if place != Place::Squashfs {
            self.guest.agent(&format!("files make {made_in} count={count} seed={SEED}"))?;
            // What was written is to be read again.
            self.run("sync; echo 3 > /proc/sys/vm/drop_caches")?;
        }
        if place.is_overlay() {
            self.run(&mount)?;
        }
        if place == Place::OverlayMetacopy {
            let chmod = "xargs -0 /bin/busybox chmod 600";
            self.run(&format!("find {folder} -type f -print0 | {chmod}"))?;
        }
        self.mounted.insert(place);
        Ok(Ok(()))
    }

    /// Makes files of huge pages; why not, where the kernel has not enough of 2 MiB.
    fn make_huge(&mut self, folder: &str) -> Result<std::result::Result<(), String>> {
        let kib = self.run("sed -n 's/^Hugepagesize: *//p' /proc/meminfo")?;
        if kib != ["2048 kB"] {
            return Ok(Err(format!("the kernel's huge pages have {}", kib.join(""))));
        }
        self.run("echo 3 > /proc/sys/vm/drop_caches; echo 1 > /proc/sys/vm/compact_memory; true")?;
        self.run(&format!("echo {HUGE_PAGES} > /proc/sys/vm/nr_hugepages"))?;
        if self.run("cat /proc/sys/vm/nr_hugepages")? != [HUGE_PAGES.to_string()] {
            return Ok(Err("the guest has no memory for huge pages".to_owned()));
        }
        self.guest.agent(&format!("files huge {folder} count={HUGE_FILES} seed={SEED}"))?;
        Ok(Ok(()))
    }

    /// The files of a place.
    fn files_of(&self, place: Place) -> &[Made] {
        if place == Place::Hugetlbfs { &self.huge_files } else { &self.files }
    }

    /// Has a process read, hold and map all files.
    fn hold(&mut self, folder: &str) -> Result<()> {
        let notes = self.guest.agent(&format!("files hold {folder} map"))?;
        if notes.is_empty() { Ok(()) } else { Err(Error::new(notes.join("; "))) }
    }

    /// The truth now.
    fn moment(
        &mut self,
        place: Place,
        phase: Phase,
        changed: &BTreeSet<String>,
        sums: bool,
    ) -> Result<Moment> {
        let folder = place.files();
        let mut files = BTreeMap::new();
        let made = self.files_of(place).iter().enumerate();
        let indexes: BTreeMap<String, usize> =
            made.map(|(index, file)| (file.name.clone(), index)).collect();
        for path in self.guest.agent(&format!("run find {folder} -type f"))? {
            let mut names = path.rsplit('/');
            let (name, parent) = (names.next().unwrap_or(""), names.next().unwrap_or(""));
            let index = *indexes
                .get(format!("{parent}/{name}").as_str())
                .ok_or_else(|| Error::new(format!("the guest has a file {path}; who made it?")))?;
            let changed = changed.contains(&path);
            let truth = FileTruth {
                path: path.clone(),
                index,
                changed,
                sums: None,
                resident: None,
                data: None,
            };
            files.insert(path, truth);
        }
        if files.len() != indexes.len() {
            let counts = (files.len(), indexes.len());
            return Err(Error::new(format!("{} files of {} are in {folder}", counts.0, counts.1)));
        }
        if sums {
            let mut all: BTreeMap<String, [String; 3]> = BTreeMap::new();
            for (which, program) in ["sha256sum", "sha1sum", "md5sum"].iter().enumerate() {
                let lines = self.guest.agent(&format!(
                    "run find {folder} -type f -print0 | xargs -0 /bin/busybox {program}"
                ))?;
                for line in lines {
                    if let Some((sum, path)) = line.split_once("  ") {
                        sum.clone_into(&mut all.entry(path.to_owned()).or_default()[which]);
                    }
                }
            }
            for (path, sums) in all {
                let file = files.get_mut(&path);
                file.ok_or_else(|| Error::new(format!("who made {path}?")))?.sums = Some(sums);
            }
        }
        let mut page_bytes = 4096;
        // Of huge pages `mincore` says which are mapped.
        let asks = place != Place::Hugetlbfs;
        let command = format!("files resident {folder}");
        for line in if asks { self.guest.agent(&command)? } else { Vec::new() } {
            let line: Value =
                serde_json::from_str(&line).map_err(|e| Error::new(format!("{line}: {e}")))?;
            let Some(file) = line["path"].as_str().and_then(|path| files.get_mut(path)) else {
                continue;
            };
            page_bytes = line["page_bytes"].as_u64().unwrap_or(page_bytes);
            file.resident = Some(ranges(&line["resident"]));
            file.data = Some(ranges(&line["data"]));
        }
        Ok(Moment { place, phase, page_bytes, files: files.into_values().collect() })
    }

    /// Stops the guest and lets somebody look.
    fn look_at<T>(
        &mut self,
        moment: &Moment,
        settle: Duration,
        look: &mut impl FnMut(&Guest, &Moment, &[Made]) -> Result<T>,
    ) -> Result<T> {
        std::thread::sleep(settle);
        self.guest.pause()?;
        let seen = look(&self.guest, moment, self.files_of(moment.place));
        self.guest.resume()?;
        seen
    }

    /// The same for a truth that may change by itself, as often as it takes until it did not.
    fn look_again<T>(
        &mut self,
        place: Place,
        phase: Phase,
        changed: &BTreeSet<String>,
        look: &mut impl FnMut(&Guest, &Moment, &[Made]) -> Result<T>,
    ) -> Result<T> {
        for attempt in 0..ATTEMPTS {
            let before = self.moment(place, phase, changed, false)?;
            let seen = self.look_at(&before, SETTLE * 2_u32.pow(attempt), look)?;
            let after = self.moment(place, phase, changed, false)?;
            let pages = |moment: &Moment| -> Vec<_> {
                moment.files.iter().map(|file| file.resident.clone()).collect()
            };
            if pages(&before) == pages(&after) {
                return Ok(seen);
            }
        }
        Err(Error::new(format!("pages of {} come and go by themselves", place.name())))
    }
}

/// Ranges that the agent told: `["0-3", …]`.
fn ranges(list: &Value) -> Vec<Range<u64>> {
    let range = |range: &Value| {
        let (first, end) = range.as_str()?.split_once('-')?;
        Some(first.parse().ok()?..end.parse().ok()?)
    };
    list.as_array().map_or(&[][..], |list| list).iter().filter_map(range).collect()
}

/// Writes files into a folder of this machine.
fn write_tree(tree: &std::path::Path, files: &[Made]) -> Result<()> {
    for file in files {
        let path = tree.join(&file.name);
        cache::create(path.parent().unwrap_or(tree))?;
        std::fs::write(&path, &file.content).map_err(|e| Error::io("write", &path, &e))?;
    }
    Ok(())
}
