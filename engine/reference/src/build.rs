//! Makes a bill of materials of what is shipped.
//!
//! [`build`] finds out what a source is and hands it on: `root` is a root directory, whose files are hashed by
//! all processors, and `dpkg` what its packages say of them; `image` is a container image, whose pieces lie in a
//! `store`, whose `layer`s are read and laid over each other in a `tree`; `deb` is a package.

mod deb;
mod dpkg;
mod image;
mod layer;
mod root;
mod store;
mod tree;
mod unpack;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use self::store::Store;
use crate::digest::PageHashes;
use crate::error::Error;
use crate::load::{self, open_regular};
use crate::model::{Image, Sbom, Subject};

/// How much of a file is looked at to tell what it is.
const BEGINNING_BYTES: u64 = 512;
/// Most that a fuzz target unpacks of a layer: a few bytes can be gigabytes.
const FUZZ_BYTES_MAX: u64 = 8 << 20;
/// Where a tar archive says what it is.
const TAR_MAGIC_AT: usize = 257;

/// What is asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// What the subject is called, rather than what the source says.
    pub name: Option<String>,
    /// Globs of ids or names of containers; with any, the subject is an image.
    pub containers: Vec<String>,
    /// Which image of a source that holds several: its name or its manifest's digest.
    pub image: Option<String>,
    /// Which platform of an image: `linux/arm64`.
    pub platform: Option<String>,
    /// Of which files pages are hashed.
    pub page_hashes: PageHashes,
    /// Paths inside a root directory that are left out, with all below them.
    pub excluded: Vec<PathBuf>,
    /// Whether dpkg's word is taken for the files of a root, unread.
    pub trust_dpkg: bool,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Built {
    /// The bill of materials.
    pub sbom: Sbom,
    /// What it was made of, for people.
    pub source: &'static str,
    /// What is missing in it or wrong with the source, a line each.
    pub problems: Vec<String>,
    /// What else somebody should know, a line each.
    pub remarks: Vec<String>,
    /// How many bytes were hashed.
    pub bytes: u64,
    /// How many devices, sockets and pipes were passed over.
    pub special: u64,
}

/// Hears how far it is.
pub trait Progress: Sync {
    /// So many more bytes are to be read.
    fn expect(&self, bytes: u64);
    /// So many more bytes were read.
    fn advance(&self, bytes: u64);
}

impl Progress for () {
    fn expect(&self, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
}

/// Makes a bill of materials of whatever `source` is found to be.
pub fn build(source: &Path, options: &Options, progress: &dyn Progress) -> Result<Built, Error> {
    let metadata = std::fs::metadata(source).map_err(|error| Error::reading(source, &error))?;
    let mut built = if metadata.is_dir()
        && source.join(image::LAYOUT).is_file()
        && source.join(image::INDEX).is_file()
    {
        for_images(source, options, true)?;
        image::build(&Store::Folder(source.to_owned()), options, progress)
            .map_err(|error| error.within(source.display()))?
    } else if metadata.is_dir() {
        for_images(source, options, false)?;
        let is_dpkg = source.join(dpkg::INFO).is_dir();
        if options.trust_dpkg {
            if !is_dpkg {
                let message = format!(
                    "{} has no {}, which --trust-dpkg reads; leave the option out",
                    source.display(),
                    dpkg::INFO
                );
                return Err(Error::request(message));
            }
            dpkg::trusted(source)?
        } else {
            root::build(source, options, is_dpkg, progress)?
        }
    } else {
        if options.trust_dpkg {
            let message =
                format!("{} is no root directory; leave out --trust-dpkg", source.display());
            return Err(Error::request(message));
        }
        of_file(source, options, progress)?
    };
    name(&mut built.sbom.subject, options);
    built.sbom.settle()?;
    Ok(built)
}

fn of_file(source: &Path, options: &Options, progress: &dyn Progress) -> Result<Built, Error> {
    let failed = |error: std::io::Error| Error::reading(source, &error);
    let file = open_regular(source, OFlags::empty()).map_err(failed)?;
    let mut beginning = Vec::new();
    (&file).take(BEGINNING_BYTES).read_to_end(&mut beginning).map_err(failed)?;
    let within = |error: Error| error.within(source.display());
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
            return Err(Error::content(message));
        }
        for_images(source, options, true)?;
        return image::build(&store, options, progress).map_err(within);
    }
    for_images(source, options, false)?;
    if beginning.starts_with(deb::AR) {
        std::io::Seek::rewind(&mut &file).map_err(failed)?;
        return deb::build(file, options, progress).map_err(within);
    }
    if let Some(name) = unpack::compression(&beginning) {
        let message = format!("{} is packed with {name}; unpack it first", source.display());
        return Err(Error::content(message));
    }
    Ok(Built {
        sbom: load::file(source)?,
        source: "an SBOM",
        problems: Vec::new(),
        remarks: Vec::new(),
        bytes: 0,
        special: 0,
    })
}

/// What the fuzz targets feed: the entries of an archive, laid over each other as layers and as a package.
#[doc(hidden)]
pub fn fuzz_layers(layers: &[&[u8]]) -> Result<Sbom, Error> {
    let mut tree = tree::Tree::new();
    for packed in layers {
        let unpacked = unpack::unpack(*packed)
            .map_err(|error| Error::content(format!("can't be unpacked: {error}")))?;
        tree.apply(layer::read(&mut unpacked.take(FUZZ_BYTES_MAX), PageHashes::All)?)?;
    }
    let mut sbom = Sbom { subject: Subject::Image(Image::default()), files: tree.files().0 };
    sbom.settle()?;
    Ok(sbom)
}

/// The same for a package.
#[doc(hidden)]
pub fn fuzz_deb(package: &[u8]) -> Result<Sbom, Error> {
    Ok(deb::build(package, &Options::default(), &())?.sbom)
}

/// Refuses options that are about something else than what was found.
fn for_images(source: &Path, options: &Options, is_image: bool) -> Result<(), Error> {
    let of_image =
        [("--platform", options.platform.is_some()), ("--image", options.image.is_some())];
    let of_root =
        [("--trust-dpkg", options.trust_dpkg), ("--exclude", !options.excluded.is_empty())];
    let (options, what) =
        if is_image { (of_root, "is an image") } else { (of_image, "is no image") };
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            Err(Error::request(format!("{} {what}; leave out {option}", source.display())))
        }
        None => Ok(()),
    }
}

/// Gives the subject the name and the containers that were asked for.
fn name(subject: &mut Subject, options: &Options) {
    if !options.containers.is_empty() && !matches!(subject, Subject::Image(_)) {
        let name = subject.name().map(str::to_owned);
        *subject = Subject::Image(Image { name, ..Image::default() });
    }
    match subject {
        Subject::Image(image) => {
            image.containers.extend(options.containers.iter().cloned());
            image.containers.sort();
            image.containers.dedup();
            if options.name.is_some() {
                image.name.clone_from(&options.name);
            }
        }
        Subject::Root { name } | Subject::Package { name, .. } | Subject::Hashes { name } => {
            if options.name.is_some() {
                name.clone_from(&options.name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
