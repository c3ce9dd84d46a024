//! The truth about files' contents: files of all sizes on every filesystem, their bytes, and which
//! of their pages are in memory, determined from inside.
//!
//! A [`Course`] is one guest with its disks. At each [`Place`] it creates the files, starts a
//! process that holds them, and stops the guest at some [`Moment`]s, at which a caller may read its
//! memory: when every file was read, when pages were evicted from the page cache, when some files
//! were changed. The caller compares what it read.

pub mod made;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

pub use made::Made;

use crate::cache::{self, Scratch};
use crate::disk::{self, Disk, Format};
use crate::error::{Error, Result};
use crate::guest::{Guest, GuestSpec};
use crate::kernel::Kernel;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    Ext4,
    /// ext4 that keeps the smallest files inside their inodes.
    Ext4Inline,
    Xfs,
    Btrfs,
    /// Btrfs that compresses everything.
    BtrfsZstd,
    Squashfs,
    Tmpfs,
    /// tmpfs with huge pages wherever possible.
    TmpfsHuge,
    /// overlayfs: ext4 below, tmpfs above.
    Overlay,
    /// overlayfs on ext4 that copies up attributes alone, where only those change.
    OverlayMetacopy,
    /// hugetlbfs, whose pages are 2 MiB.
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

    /// The name for people.
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

    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|place| place.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|place| place.name()).collect();
            Error::new(format!("no place {name:?}; known are: {}", known.join(", ")))
        })
    }

    /// Its kind in /proc/filesystems, with which its name begins.
    fn filesystem(self) -> &'static str {
        self.name().split('-').next().unwrap_or_default()
    }

    /// The format of its disk, if it is on one.
    fn format(self) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == self.filesystem())
    }

    /// Whether files are on an overlay. There, an area that was mapped before a file was copied up
    /// keeps showing the lower file.
    pub const fn is_overlay(self) -> bool {
        matches!(self, Self::Overlay | Self::OverlayMetacopy)
    }

    /// Whether files exist only in the page cache. Pages that it lacks are holes, and `mincore`
    /// reports holes as absent.
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Tmpfs | Self::TmpfsHuge | Self::Hugetlbfs)
    }

    fn folder(self) -> String {
        format!("/mnt/{}", self.name())
    }

    /// The folder of its files.
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
    /// Then some pages were evicted from the page cache.
    Evicted,
    /// Then some files were changed.
    Changed,
    /// A process that started later read everything again.
    ReadAgain,
    /// Then memory became scarce.
    Pressed,
}

impl Phase {
    /// The name for people.
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
    pub path: String,
    /// Its index in [`Course::files`].
    pub index: usize,
    /// Whether it was changed after it was made.
    pub changed: bool,
    /// SHA-256, SHA-1 and MD5 as hex, if the guest was asked for them.
    pub sums: Option<[String; 3]>,
    /// Its pages of [`Moment::page_bytes`] that are in memory, if the guest was asked for them.
    pub resident: Option<Vec<Range<u64>>>,
    /// Its pages that are not holes, if the guest was asked for them.
    pub data: Option<Vec<Range<u64>>>,
}

/// A moment at which the guest is paused.
#[derive(Clone, Debug)]
pub struct Moment {
    pub place: Place,
    pub phase: Phase,
    /// The guest's page size in bytes.
    pub page_bytes: u64,
    pub files: Vec<FileTruth>,
}

/// The name of the process that holds the files open and mapped.
pub const HOLDER: &str = "hold";

/// How often pages may come or go during a check before it fails.
const ATTEMPTS: u32 = 6;

/// How long a guest needs after a command until its pages no longer change. The time doubles with
/// each attempt, since a slow guest needs longer.
const SETTLE: Duration = Duration::from_millis(200);

const SEED: u64 = 7;

/// The number of files of huge pages, and the number of huge pages that they have.
const HUGE_FILES: u32 = 6;
const HUGE_PAGES: u32 = 12;

/// Size of the swap disk.
const SWAP_BYTES: u64 = 512 << 20;

/// A guest with disks and files.
#[derive(Debug)]
pub struct Course {
    guest: Guest,
    /// The disks; removed after the guest.
    _folder: Scratch,
    files: Vec<Made>,
    huge_files: Vec<Made>,
    /// The places of the disks, in the order of the disks.
    disks: Vec<Place>,
    known: BTreeSet<String>,
    mounted: BTreeSet<Place>,
    presses: bool,
}

impl Course {
    /// Boots a guest for `count` files at each of these places.
    pub fn boot(kernel: Kernel, places: &[Place], count: u32) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut spec = GuestSpec { memory_mib: 768, ..GuestSpec::new(kernel) };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // In a folder where the next guest removes what a killed run left behind.
        let folder = format!("{}-disks-{number}", std::process::id());
        let folder = Scratch::new(cache::folder("guests")?.join(folder))?;
        let files: Vec<Made> = made::all(count, SEED).collect();
        let mut wanted: BTreeSet<Place> = places.iter().copied().collect();
        if places.iter().any(|place| place.is_overlay()) {
            wanted.insert(Place::Ext4);
        }
        // Overlays need them once more below, and once more above.
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
            _folder: folder,
            files,
            huge_files,
            disks,
            known,
            mounted: BTreeSet::new(),
            presses: false,
        })
    }

    /// From now on memory becomes scarce at the end of each place, so the kernel itself evicts
    /// pages, and swaps those of files that exist only in memory.
    pub fn press(&mut self) -> Result<()> {
        let swap = (b'a' + self.disks.len() as u8) as char;
        self.run(&format!(
            "/bin/busybox mkswap /dev/vd{swap} && /bin/busybox swapon /dev/vd{swap}"
        ))?;
        self.presses = true;
        Ok(())
    }

    /// The files that are created at each place.
    pub fn files(&self) -> &[Made] {
        &self.files
    }

    pub const fn guest(&mut self) -> &mut Guest {
        &mut self.guest
    }

    /// Visits a place and calls `look` at each moment. Returns its results by phase, or the reason
    /// why the kernel has no such place. A moment counts only if the truth is the same after it.
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
        seen.push(self.look_at_sums(place, Phase::Read, &changed, &mut look)?);
        if !place.is_memory() {
            self.guest.agent(&format!("files evict {folder} seed=5"))?;
            seen.push(self.look_until_stable(place, Phase::Evicted, &changed, &mut look)?);
        }
        if place != Place::Squashfs && place != Place::Hugetlbfs {
            let lines = self.guest.agent(&format!("files touch {folder} every=3"))?;
            changed.extend(lines);
            seen.push(self.look_until_stable(place, Phase::Changed, &changed, &mut look)?);
        }
        if place.is_overlay() {
            self.guest.agent("kill-all")?;
            seen.push(self.look_at_sums(place, Phase::ReadAgain, &changed, &mut look)?);
        }
        if self.presses && place != Place::Hugetlbfs {
            self.guest.agent("kill-all")?;
            self.hold(&folder)?;
            let (swappiness, percent) = if place.is_memory() { (100, 70) } else { (1, 60) };
            self.run(&format!("echo {swappiness} > /proc/sys/vm/swappiness"))?;
            self.guest.agent(&format!("files press {folder} percent={percent}"))?;
            seen.push(self.look_until_stable(place, Phase::Pressed, &changed, &mut look)?);
        }
        self.guest.agent("kill-all")?;
        Ok(Ok(seen))
    }

    fn run(&mut self, command: &str) -> Result<Vec<String>> {
        self.guest.agent(&format!("run {command}"))
    }

    /// Mounts a place and creates its files; returns the reason if the kernel cannot mount it.
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
        // Files below an overlay must not change while it is mounted.
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
            // Drops what was written, so that it must be read again.
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

    /// Creates files of huge pages; returns the reason if the kernel has too few of 2 MiB.
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

    fn files_of(&self, place: Place) -> &[Made] {
        if place == Place::Hugetlbfs { &self.huge_files } else { &self.files }
    }

    /// Starts a process that reads, holds and maps all files.
    fn hold(&mut self, folder: &str) -> Result<()> {
        let notes = self.guest.agent(&format!("files hold {folder} map"))?;
        if notes.is_empty() { Ok(()) } else { Err(Error::new(notes.join("; "))) }
    }

    /// The present truth.
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
                .ok_or_else(|| Error::new(format!("the guest has an unexpected file {path}")))?;
            let changed = changed.contains(&path);
            let (sums, resident, data) = (None, None, None);
            let truth = FileTruth { path: path.clone(), index, changed, sums, resident, data };
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
                file.ok_or_else(|| Error::new(format!("unexpected {path}")))?.sums = Some(sums);
            }
        }
        let mut page_bytes = 4096;
        // `mincore` reports only which huge pages are mapped.
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

    /// Pauses the guest and calls `look`.
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

    /// Holds all files, and looks with their checksums.
    fn look_at_sums<T>(
        &mut self,
        place: Place,
        phase: Phase,
        changed: &BTreeSet<String>,
        look: &mut impl FnMut(&Guest, &Moment, &[Made]) -> Result<T>,
    ) -> Result<(Phase, T)> {
        self.hold(&place.files())?;
        let moment = self.moment(place, phase, changed, true)?;
        Ok((phase, self.look_at(&moment, SETTLE, look)?))
    }

    /// Looks at a truth that may change by itself: repeats until the truth stayed the same.
    fn look_until_stable<T>(
        &mut self,
        place: Place,
        phase: Phase,
        changed: &BTreeSet<String>,
        look: &mut impl FnMut(&Guest, &Moment, &[Made]) -> Result<T>,
    ) -> Result<(Phase, T)> {
        for attempt in 0..ATTEMPTS {
            let before = self.moment(place, phase, changed, false)?;
            let seen = self.look_at(&before, SETTLE * 2_u32.pow(attempt), look)?;
            let after = self.moment(place, phase, changed, false)?;
            let pages = |moment: &Moment| -> Vec<_> {
                moment.files.iter().map(|file| file.resident.clone()).collect()
            };
            if pages(&before) == pages(&after) {
                return Ok((phase, seen));
            }
        }
        Err(Error::new(format!("pages of {} come and go by themselves", place.name())))
    }
}

/// Ranges from the agent: `["0-3", …]`.
fn ranges(list: &Value) -> Vec<Range<u64>> {
    let range = |range: &Value| {
        let (first, end) = range.as_str()?.split_once('-')?;
        Some(first.parse().ok()?..end.parse().ok()?)
    };
    list.as_array().map_or(&[][..], |list| list).iter().filter_map(range).collect()
}

/// Writes files into a folder of the host.
fn write_tree(tree: &std::path::Path, files: &[Made]) -> Result<()> {
    for file in files {
        let path = tree.join(&file.name);
        cache::create(path.parent().unwrap_or(tree))?;
        cache::write(&path, &file.content)?;
    }
    Ok(())
}
