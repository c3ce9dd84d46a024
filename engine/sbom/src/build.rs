//! Builds an SBOM from what is shipped.
//!
//! [`build`] detects the type of a source and passes it on: `root` is a root directory, whose files
//! are hashed on all processors, and `installed` the data of its packages about them, by their
//! `manager` (`dpkg`, `rpm`); `image` is a container image, whose blobs are in a `store` and whose
//! `layer`s are merged in a `tree`, or one of several in a store of containerd's; `storage` is a
//! store of podman's with several, `deb` a package, `initramfs` what a machine boots with.

mod deb;
mod dpkg;
mod image;
mod initramfs;
mod installed;
mod layer;
mod manager;
mod room;
mod root;
mod rpm;
mod storage;
mod store;
mod tree;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use panoptes_unpack::{Compression, unsupported};
use rustix::fs::OFlags;

use self::manager::PackageManagerKind;
use self::store::Store;
use crate::digest::PageHashes;
use crate::error::SbomError;
use crate::load::{self, open_regular};
use crate::model::{Sbom, SbomImage, SbomSubject};

/// How many bytes of a file are read to detect its type.
const BEGINNING_BYTES: u64 = 512;
/// Maximum number of bytes that a fuzz target unpacks of a layer: a few bytes can be gigabytes.
const FUZZ_BYTES_MAX: u64 = 8 << 20;
/// Offset of a tar archive's magic.
const TAR_MAGIC_AT: usize = 257;

/// The options of a build.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BuildOptions {
    /// The subject's name, instead of the source's.
    pub name: Option<String>,
    /// Globs of ids or names of containers; if there are any, the subject is an image.
    pub containers: Vec<String>,
    /// The image in a source with several: its name or its manifest's digest.
    pub image: Option<String>,
    /// The platform of an image: `linux/arm64`.
    pub platform: Option<String>,
    /// The files whose pages are hashed.
    pub page_hashes: PageHashes,
    /// Paths inside a root directory that are left out, with everything below them.
    pub excluded: Vec<PathBuf>,
    /// Whether dpkg's MD5s of a root's files are trusted, without reading the files.
    pub trust_dpkg: bool,
    /// The same for rpm's digests.
    pub trust_rpm: bool,
}

impl BuildOptions {
    /// The package manager whose digests are trusted.
    const fn trusted(&self) -> Option<PackageManagerKind> {
        match (self.trust_dpkg, self.trust_rpm) {
            (true, _) => Some(PackageManagerKind::Dpkg),
            (false, true) => Some(PackageManagerKind::Rpm),
            (false, false) => None,
        }
    }
}

/// The result of a build.
#[derive(Clone, Debug)]
pub struct BuildResult {
    pub sbom: Sbom,
    /// A description of the source, for people.
    pub source: &'static str,
    /// Missing parts of the SBOM and faults of the source, one line each.
    pub problems: Vec<String>,
    /// Further remarks for people, one line each.
    pub remarks: Vec<String>,
    /// Number of bytes hashed.
    pub bytes: u64,
    /// Number of devices, sockets and pipes skipped.
    pub special: u64,
}

impl BuildResult {
    /// Gives the subject the requested name and containers, and brings the files into their order.
    ///
    /// # Errors
    ///
    /// A path has two contents.
    pub fn complete(mut self, options: &BuildOptions) -> Result<Self, SbomError> {
        name(&mut self.sbom.subject, options);
        self.sbom.settle()?;
        Ok(self)
    }
}

/// Receives the progress of a build.
pub trait BuildProgress: Sync {
    /// `bytes` more bytes will be read.
    fn expect(&self, bytes: u64);
    /// `bytes` more bytes were read.
    fn advance(&self, bytes: u64);
}

impl BuildProgress for () {
    fn expect(&self, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
}

/// Reports how many bytes are read.
struct ProgressReader<'a, R> {
    input: R,
    progress: &'a dyn BuildProgress,
}

impl<R: Read> Read for ProgressReader<'_, R> {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(target)?;
        self.progress.advance(count as u64);
        Ok(count)
    }
}

/// Does `count` pieces of work on all processors and returns their results in order. Each thread
/// has what `begin` returns.
fn on_all_processors<S, T: Send>(
    count: usize,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    let run = || {
        let mut own = begin();
        let pieces = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        for index in pieces.take_while(|index| *index < count) {
            let result = work(&mut own, index);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(count);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Builds an SBOM from `source`, whose type is detected.
pub fn build(
    source: &Path,
    options: &BuildOptions,
    progress: &dyn BuildProgress,
) -> Result<BuildResult, SbomError> {
    let metadata = std::fs::metadata(source).map_err(SbomError::reading(source))?;
    let built = if metadata.is_dir()
        && source.join(image::LAYOUT).is_file()
        && source.join(image::INDEX).is_file()
    {
        for_images(source, options, true)?;
        image::build(&Store::Folder(source.to_owned()), options, progress)
            .map_err(|error| error.within(source.display()))?
    } else if metadata.is_dir() && source.join(storage::IMAGES).is_file() {
        for_images(source, options, true)?;
        storage::build(source, options, progress).map_err(|error| error.within(source.display()))?
    } else if metadata.is_dir() && image::containerd::is_store(source) {
        for_images(source, options, true)?;
        image::containerd::build(source, options, progress)
            .map_err(|error| error.within(source.display()))?
    } else if metadata.is_dir() {
        for_images(source, options, false)?;
        if let Some(manager) = options.trusted() {
            let name = manager.name();
            if !manager.is_in(source) {
                let message = format!(
                    "{} has no database of {name}, which --trust-{name} reads; leave that out",
                    source.display(),
                );
                return Err(SbomError::request(message));
            }
            manager.trusted(source)?
        } else {
            let manager = PackageManagerKind::ALL.into_iter().find(|manager| manager.is_in(source));
            root::build(source, options, manager, progress)?
        }
    } else {
        if let Some(manager) = options.trusted() {
            return Err(SbomError::request(format!(
                "{} is no root directory; leave out --trust-{}",
                source.display(),
                manager.name()
            )));
        }
        of_file(source, options, progress)?
    };
    built.complete(options)
}

fn of_file(
    source: &Path,
    options: &BuildOptions,
    progress: &dyn BuildProgress,
) -> Result<BuildResult, SbomError> {
    let failed = SbomError::reading(source);
    let file = open_regular(source, OFlags::empty()).map_err(failed)?;
    let mut beginning = Vec::new();
    (&file).take(BEGINNING_BYTES).read_to_end(&mut beginning).map_err(failed)?;
    let within = |error: SbomError| error.within(source.display());
    if beginning.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar")) {
        std::io::Seek::rewind(&mut &file).map_err(failed)?;
        let store = Store::archive(file).map_err(within)?;
        if !store.has(image::INDEX) && !store.has(image::DOCKER) {
            let message = format!(
                "{} is an archive of no image: it has neither {} nor {}",
                source.display(),
                image::INDEX,
                image::DOCKER
            );
            return Err(SbomError::content(message));
        }
        for_images(source, options, true)?;
        return image::build(&store, options, progress).map_err(within);
    }
    for_images(source, options, false)?;
    if beginning.starts_with(panoptes_unpack::AR) {
        std::io::Seek::rewind(&mut &file).map_err(failed)?;
        return deb::build(file, options, progress).map_err(within);
    }
    let packing = Compression::of(&beginning);
    if packing.is_some() || initramfs::is_archive(&beginning) {
        std::io::Seek::rewind(&mut &file).map_err(failed)?;
        if initramfs::is_one(&file).map_err(within)? {
            std::io::Seek::rewind(&mut &file).map_err(failed)?;
            return initramfs::build(file, options, progress).map_err(within);
        }
    }
    if let Some(name) = packing.map(Compression::name).or(unsupported(&beginning)) {
        let message = format!("{} is packed with {name}; unpack it first", source.display());
        return Err(SbomError::content(message));
    }
    Ok(BuildResult {
        sbom: load::file(source)?,
        source: "an SBOM",
        problems: Vec::new(),
        remarks: Vec::new(),
        bytes: 0,
        special: 0,
    })
}

/// The input of fuzz targets: the entries of archives, merged as layers and as a package.
#[doc(hidden)]
pub fn fuzz_layers(layers: &[&[u8]]) -> Result<Sbom, SbomError> {
    let (mut tree, room) = (tree::ImageTree::new(), room::Room::new());
    for packed in layers {
        let unpacked = panoptes_unpack::all(*packed).map_err(SbomError::unpacking)?;
        tree.apply(layer::read(&mut unpacked.take(FUZZ_BYTES_MAX), PageHashes::All, &room)?)?;
    }
    let mut sbom =
        Sbom { subject: SbomSubject::Image(SbomImage::default()), files: tree.files()?.0 };
    sbom.settle()?;
    Ok(sbom)
}

/// The same for a package.
#[doc(hidden)]
pub fn fuzz_deb(package: &[u8]) -> Result<Sbom, SbomError> {
    Ok(deb::build(package, &BuildOptions::default(), &())?.sbom)
}

/// The same for a database of rpm's and its log.
#[doc(hidden)]
pub fn fuzz_rpm(database: &[u8], log: &[u8]) -> Result<(), SbomError> {
    use std::io::Write as _;
    let file = |bytes| {
        let memory = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(memory);
        file.write_all(bytes)?;
        std::io::Seek::rewind(&mut file)?;
        Ok::<_, std::io::Error>(file)
    };
    let files = file(database).and_then(|database| Ok((database, file(log)?)));
    let (database, log) = files.map_err(SbomError::reading(Path::new("memory")))?;
    rpm::fuzz(database, log)
}

/// The same for the names of images in a database of containerd's; returns their number.
#[doc(hidden)]
pub fn fuzz_image_names(database: &[u8]) -> Result<usize, SbomError> {
    image::fuzz_names(database)
}

/// Refuses options that do not apply to the type of the source.
fn for_images(source: &Path, options: &BuildOptions, is_image: bool) -> Result<(), SbomError> {
    let of_image =
        [("--platform", options.platform.is_some()), ("--image", options.image.is_some())];
    let of_root = [
        ("--trust-dpkg", options.trust_dpkg),
        ("--trust-rpm", options.trust_rpm),
        ("--exclude", !options.excluded.is_empty()),
    ];
    let (options, what): (&[_], _) =
        if is_image { (&of_root, "is an image") } else { (&of_image, "is no image") };
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            Err(SbomError::request(format!("{} {what}; leave out {option}", source.display())))
        }
        None => Ok(()),
    }
}

/// Sets the requested name and containers of the subject.
fn name(subject: &mut SbomSubject, options: &BuildOptions) {
    if !options.containers.is_empty() && !matches!(subject, SbomSubject::Image(_)) {
        let name = subject.name().map(str::to_owned);
        *subject = SbomSubject::Image(SbomImage { name, ..SbomImage::default() });
    }
    match subject {
        SbomSubject::Image(image) => {
            image.containers.extend(options.containers.iter().cloned());
            image.containers.sort();
            image.containers.dedup();
            if options.name.is_some() {
                image.name.clone_from(&options.name);
            }
        }
        SbomSubject::Root { name }
        | SbomSubject::Package { name, .. }
        | SbomSubject::Hashes { name } => {
            if options.name.is_some() {
                name.clone_from(&options.name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
