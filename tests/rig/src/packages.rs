//! Fetches Debian packages without changing the host: a private apt root in the cache folder.
//!
//! Kernels come from several suites. With those suites in the host's own sources, the next `apt-get
//! install` would upgrade its libc. So apt uses lists and archives of the rig, with the mirror and
//! the keyring of the host. Nothing is installed from here; packages are downloaded and unpacked.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use panoptes_needs::Need;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::flavor::Architecture;

/// A private apt root with the packages of a few suites.
#[derive(Debug)]
pub struct Packages {
    root: PathBuf,
    architecture: Architecture,
}

/// The source of the host's own Debian packages.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Mirror {
    uri: String,
    keyring: Option<String>,
}

/// The suites whose packages are needed: see `flavor::Series`.
pub(crate) const SUITES: &[&str] = &["bullseye", "bookworm", "trixie", "sid"];

/// The suite of kernels between those of the releases.
pub(crate) const BACKPORTS: &[&str] = &["trixie-backports"];

const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Packages {
    /// Opens the private root of an architecture, downloading the lists of packages (about 40 MB).
    pub fn open(architecture: Architecture) -> Result<Self> {
        Self::open_suites(architecture, architecture.debian(), SUITES)
    }

    /// As [`open`](Self::open), with the packages of Debian 13's backports alone (300 kB). Among
    /// the others, its kernels would be taken for those of a release.
    pub(crate) fn open_backports(architecture: Architecture) -> Result<Self> {
        let name = format!("{}-backports", architecture.debian());
        Self::open_suites(architecture, &name, BACKPORTS)
    }

    fn open_suites(architecture: Architecture, name: &str, suites: &[&str]) -> Result<Self> {
        let packages = Self { root: cache::folder("apt")?.join(name), architecture };
        for folder in ["lists/partial", "cache/archives/partial"] {
            cache::create(&packages.root.join(folder))?;
        }
        let mut sources = String::new();
        for suite in suites {
            let _ = writeln!(sources, "{}", line_of(suite)?);
        }
        cache::write(&packages.root.join("sources.list"), sources.as_bytes())?;
        command::output(packages.apt("apt-get").args(["-q", "update"]))?;
        Ok(packages)
    }

    /// Names of all packages that start with `prefix`.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = command::output(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Downloads the newest version of a package, or that of a suite (`bash/bookworm`), into the
    /// cache and returns the path of its file.
    pub fn download(&self, package: &str) -> Result<PathBuf> {
        let folder = folder_of(self.architecture, package)?;
        cache::create(&folder)?;
        if let Some(found) = only_package(&folder) {
            return Ok(found);
        }
        command::output(
            self.apt("apt-get").args(["-q", "download", package]).current_dir(&folder),
        )?;
        only_package(&folder).ok_or_else(|| {
            Error::new(format!("apt-get download {package} left no file in {}", folder.display()))
        })
    }

    /// Removes a package's file from the cache.
    pub(crate) fn discard(&self, package: &str) -> Result<()> {
        cache::remove(&folder_of(self.architecture, package)?)
    }

    /// Downloads packages of a suite with all their dependencies into `folder`, which must contain
    /// nothing else, and returns the paths of their files, in the order of their names. Backports
    /// depend on their release, too.
    pub fn closure(&self, suite: &str, packages: &[&str], folder: &Path) -> Result<Vec<PathBuf>> {
        let list = self.root.join(format!("{suite}.list"));
        let mut lists = self.root.join("lists");
        let mut sources = format!("deb {}\n", self.source_of(suite)?);
        if let Some(release) = suite.strip_suffix("-backports") {
            let _ = writeln!(sources, "deb {}", self.source_of(release)?);
            // Separate from the others: its kernels are not those of a release.
            lists = self.root.join(format!("{suite}-lists"));
        }
        cache::write(&list, sources.as_bytes())?;
        cache::create(&lists.join("partial"))?;
        // As if nothing were installed: apt then resolves every dependency.
        let status = self.root.join("empty-status");
        cache::write(&status, b"")?;
        cache::remove(folder)?;
        cache::create(&folder.join("partial"))?;
        let apt = |words: &[&str]| {
            let mut apt = self.apt("apt-get");
            for setting in [
                format!("Dir::Etc::sourcelist={}", list.display()),
                format!("Dir::State::lists={}", lists.display()),
                format!("Dir::State::status={}", status.display()),
                format!("Dir::Cache::archives={}", folder.display()),
                // Otherwise apt prefers a release to its backports.
                format!("APT::Default-Release={suite}"),
                "APT::Install-Recommends=false".to_owned(),
            ] {
                apt.arg("-o").arg(setting);
            }
            command::output(apt.arg("-q").args(words))
        };
        if lists != self.root.join("lists") {
            apt(&["update"])?;
        }
        apt(&[&["--yes", "--download-only", "install"][..], packages].concat())?;
        let mut paths = cache::list(folder)?;
        paths.retain(|path| cache::has_extension(path, "deb"));
        Ok(paths)
    }

    /// Downloads the upstream source of a suite's package and unpacks it into `folder`, which must
    /// contain nothing else; returns the unpacked folder. Debian's own patches are not included.
    pub(crate) fn source(&self, package: &str, suite: &str, folder: &Path) -> Result<PathBuf> {
        let list = self.root.join(format!("{suite}-source.list"));
        let line = format!("deb-src {}\n", self.source_of(suite)?);
        cache::write(&list, line.as_bytes())?;
        let lists = self.root.join("source-lists");
        cache::create(&lists.join("partial"))?;
        let apt = |words: &[&str]| {
            let mut apt = self.apt("apt-get");
            for (setting, path) in [("Dir::Etc::sourcelist", &list), ("Dir::State::lists", &lists)]
            {
                apt.arg("-o").arg(format!("{setting}={}", path.display()));
            }
            command::output(apt.arg("-q").args(words).current_dir(folder))
        };
        apt(&["update"])?;
        apt(&["source", "--download-only", package])?;
        let released = find(folder, |path| path.to_string_lossy().contains(".orig.tar."));
        let released = released.ok_or_else(|| {
            Error::new(format!(
                "apt-get source {package} left no .orig.tar in {}",
                folder.display()
            ))
        })?;
        command::output(Command::new("tar").arg("-C").arg(folder).arg("-xf").arg(&released))?;
        find(folder, Path::is_dir)
            .ok_or_else(|| Error::new(format!("{} has no folder in it", released.display())))
    }

    /// The source of a suite, as in a line of a list after `deb`.
    fn source_of(&self, suite: &str) -> Result<String> {
        let release = suite.strip_suffix("-backports").unwrap_or(suite);
        let all = cache::read(&self.root.join("sources.list"))?;
        let all = String::from_utf8_lossy(&all).into_owned();
        let line = all.lines().find(|line| line.contains(&format!(" {release} ")));
        let line = line.and_then(|line| line.strip_prefix("deb "));
        line.map(|line| line.replace(&format!(" {release} "), &format!(" {suite} ")))
            .ok_or_else(|| Error::new(format!("the rig has no suite {suite}")))
    }

    /// apt, with every folder of its own replaced by one of the rig.
    fn apt(&self, program: &str) -> Command {
        let root = self.root.display();
        let mut command = Command::new(Need::named(program).name);
        command.env("LC_ALL", "C");
        let architecture = self.architecture.debian();
        for setting in [
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            format!("Dir::Etc::sourcelist={root}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={root}/lists"),
            format!("Dir::Cache={root}/cache"),
            // The user `_apt` cannot enter a home folder.
            "APT::Sandbox::User=root".to_owned(),
            // A mirror that is a week behind has lists of sid that are out of date. Guests need no
            // fresh ones.
            "Acquire::Check-Valid-Until=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            command.arg("-o").arg(setting);
        }
        command
    }
}

/// A package's file: that in the cache, for which no mirror is asked, else the newest version.
pub fn obtain(architecture: Architecture, package: &str) -> Result<PathBuf> {
    match only_package(&folder_of(architecture, package)?) {
        Some(found) => Ok(found),
        None => Packages::open(architecture)?.download(package),
    }
}

/// The folder of the cache for a package's file.
fn folder_of(architecture: Architecture, package: &str) -> Result<PathBuf> {
    let name = format!("{}_{}", package.replace('/', "_"), architecture.debian());
    Ok(cache::folder("packages")?.join(name))
}

/// The source of a suite at the host's mirror, as a line of a list.
pub fn line_of(suite: &str) -> Result<String> {
    let Mirror { uri, keyring } = Mirror::of_host()?;
    let signed = keyring.map_or_else(String::new, |keyring| format!("[signed-by={keyring}] "));
    Ok(format!("deb {signed}{uri} {suite} main"))
}

/// The package file in a folder with one.
fn only_package(folder: &Path) -> Option<PathBuf> {
    find(folder, |path| cache::has_extension(path, "deb"))
}

/// The first matching entry of a folder.
fn find(folder: &Path, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    cache::list(folder).ok()?.into_iter().find(|path| is_it(path))
}

/// Unpacks a package file into `target` (it is not installed).
pub fn unpack(package: &Path, target: &Path) -> Result<()> {
    cache::create(target)?;
    command::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(target)).map(drop)
}

/// Unpacks one file of a package file into `target`, below which it has the same path. Other files
/// need not fit on the disk.
pub fn unpack_file(package: &Path, file: &str, target: &Path) -> Result<PathBuf> {
    cache::create(target)?;
    let failed = |what: &str, e| Error::new(format!("cannot run {what}: {e}; is it installed?"));
    let mut packed = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed("dpkg-deb", e))?;
    let stream = packed.stdout.take().ok_or_else(|| Error::new("dpkg-deb has no output"))?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(target).args(["--occurrence=1", "-xf", "-"]).arg(format!("./{file}"));
    let unpacked = command::output_from(&mut tar, stream);
    // tar ends as soon as it has the file. dpkg-deb then fails to write, but only once the command
    // of tar, which still has the pipe, is gone.
    drop(tar);
    let _ = packed.wait();
    unpacked.map(|_| target.join(file))
}

impl Mirror {
    /// Reads the host's own sources, both the old and the new form.
    fn of_host() -> Result<Self> {
        // The second is not hidden from tests, which see few files of /etc.
        let paths = ["/etc/os-release", "/usr/lib/os-release"];
        let release = paths.iter().find_map(|path| std::fs::read_to_string(path).ok());
        let release = release.unwrap_or_default();
        let codename = release
            .lines()
            .find_map(|l| l.strip_prefix("VERSION_CODENAME="))
            .map(|v| v.trim_matches('"').to_owned());
        let apt = Path::new(Need::named("/etc/apt").name);
        let mut paths = cache::list(&apt.join("sources.list.d")).unwrap_or_default();
        paths.push(apt.join("sources.list"));
        let texts: Vec<_> = paths.iter().filter_map(|p| std::fs::read_to_string(p).ok()).collect();
        let found = texts.iter().find_map(|text| {
            Self::from_stanzas(text, codename.as_deref())
                .or_else(|| Self::from_lines(text, codename.as_deref()))
        });
        let mut mirror = found.ok_or_else(|| {
            Error::new(
                "no Debian mirror found in /etc/apt/sources.list or /etc/apt/sources.list.d; \
                 kernels come from Debian packages: add the machine's own Debian sources there",
            )
        })?;
        if mirror.keyring.is_none() && Path::new(ARCHIVE_KEYRING).exists() {
            mirror.keyring = Some(ARCHIVE_KEYRING.to_owned());
        }
        Ok(mirror)
    }

    /// The deb822 form: stanzas of `Key: value`, as in `debian.sources`.
    fn from_stanzas(text: &str, codename: Option<&str>) -> Option<Self> {
        text.split("\n\n").find_map(|stanza| {
            let value = |key: &str| {
                stanza.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case(key).then(|| value.trim())
                })
            };
            let suites = value("Suites")?;
            let main = value("Components")?.split_whitespace().any(|c| c == "main");
            let deb = value("Types")?.split_whitespace().any(|t| t == "deb");
            let uri = value("URIs")?.split_whitespace().next()?;
            let ours = main && deb && suites.split_whitespace().any(|s| is_base_suite(s, codename));
            let keyring = value("Signed-By").filter(|k| k.starts_with('/')).map(str::to_owned);
            ours.then(|| Self { uri: uri.to_owned(), keyring })
        })
    }

    /// The old form: `deb [options] URI suite components…`.
    fn from_lines(text: &str, codename: Option<&str>) -> Option<Self> {
        text.lines().find_map(|line| {
            let rest = line.trim().strip_prefix("deb ")?.trim_start();
            let (options, rest) = match rest.strip_prefix('[') {
                Some(inside) => inside.split_once(']')?,
                None => ("", rest),
            };
            let mut words = rest.split_whitespace();
            let (uri, suite) = (words.next()?, words.next()?);
            let ours = is_base_suite(suite, codename) && words.any(|c| c == "main");
            let keyring = options
                .split_whitespace()
                .find_map(|o| o.strip_prefix("signed-by="))
                .filter(|k| k.starts_with('/'))
                .map(str::to_owned);
            ours.then(|| Self { uri: uri.to_owned(), keyring })
        })
    }
}

/// Whether a suite is the one that the host was installed from (not its updates or security fixes).
fn is_base_suite(suite: &str, codename: Option<&str>) -> bool {
    let plain = ["stable", "oldstable", "testing", "unstable", "sid"];
    Some(suite) == codename || plain.contains(&suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_found_in_both_forms() {
        let stanzas = "Types: deb\nURIs: http://mirror.test/debian-security\nSuites: \
                       bookworm-security\nComponents: main\n\nTypes: deb\nURIs: \
                       http://mirror.test/debian\nSuites: bookworm bookworm-updates\n\
                       Components: main\nSigned-By: /k.gpg\n";
        let expected =
            Mirror { uri: "http://mirror.test/debian".into(), keyring: Some("/k.gpg".into()) };
        assert_eq!(Mirror::from_stanzas(stanzas, Some("bookworm")), Some(expected));
        let lines = "# a comment\ndeb http://other.test/tool tool-bookworm main\n\
                     deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main\n";
        let expected =
            Mirror { uri: "http://mirror.test/debian".into(), keyring: Some("/k.gpg".into()) };
        assert_eq!(Mirror::from_lines(lines, Some("bookworm")), Some(expected));
        assert_eq!(Mirror::from_lines("deb http://m.test/x bookworm main", Some("trixie")), None);
    }
}
