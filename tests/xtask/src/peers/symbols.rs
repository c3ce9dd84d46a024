//! What the peers need: their packages, and the debug symbols of the node's kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_rig::packages::{self, Packages};
use panoptes_rig::{Architecture, cache, output};

use crate::folders::ROOT;

/// The folder of the scripts, and the list of the peers' packages with their versions.
const SCRIPTS: &str = "tests/peers";
const REQUIREMENTS: &str = "requirements.txt";

/// The Python of the peers, with their packages; installed into the folder if they are not there.
#[derive(Debug)]
pub(super) struct Python {
    program: PathBuf,
}

impl Python {
    pub(super) fn obtain(folder: &Path) -> Result<Self, String> {
        let venv = folder.join("python");
        let wanted = Path::new(ROOT).join(SCRIPTS).join(REQUIREMENTS);
        let list = cache::read(&wanted)?;
        let installed = venv.join(REQUIREMENTS);
        let program = venv.join("bin/python");
        if std::fs::read(&installed).is_ok_and(|text| text == list) {
            return Ok(Self { program });
        }
        println!("== installing into {}:", venv.display());
        print!("{}", String::from_utf8_lossy(&list));
        cache::remove(&venv)?;
        output(Command::new("python3").args(["-m", "venv"]).arg(&venv)).map_err(|error| {
            format!("{error}\nThe peers need Python 3.9 with venv: apt-get install python3-venv")
        })?;
        output(Command::new(&program).args(["-m", "pip", "install", "-r"]).arg(&wanted))?;
        cache::write(&installed, &list)?;
        Ok(Self { program })
    }

    /// A command that runs a script of the peers.
    pub(super) fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.arg(Path::new(ROOT).join(SCRIPTS).join(name));
        command
    }

    /// The version of Python.
    pub(super) fn version(&self) -> Result<String, String> {
        Ok(output(Command::new(&self.program).arg("--version"))?.trim().to_owned())
    }
}

/// The `vmlinux` with DWARF of a release of Debian's; fetched unless the folder has it.
pub(super) fn vmlinux(release: &str, folder: &Path) -> Result<PathBuf, String> {
    let path = folder.join(format!("vmlinux-{release}"));
    if path.is_file() {
        return Ok(path);
    }
    let package = format!("linux-image-{release}-dbg");
    let missing = |why: String| {
        format!(
            "no debug symbols of Linux {release}: {why}.\nBoth peers need them. Take the package \
             {package} from a mirror or a snapshot archive of Debian that has it, and put its \
             usr/lib/debug/boot/vmlinux-{release} at {}",
            path.display()
        )
    };
    let packages = Packages::open(Architecture::Amd64)?;
    if !packages.names(&package)?.contains(&package) {
        return Err(missing(format!("the machine's Debian mirror has no package {package}")));
    }
    println!("== fetching {package} (1 GB, of which the 360 MB of vmlinux are kept)");
    let fetched = packages.download(&package).map_err(|error| missing(error.into()))?;
    let inside = format!("usr/lib/debug/boot/vmlinux-{release}");
    let scratch = folder.join("unpacked");
    let unpacked = packages::unpack_file(&fetched, &inside, &scratch)?;
    std::fs::rename(&unpacked, &path).map_err(|e| format!("{}: {e}", path.display()))?;
    cache::remove(&scratch)?;
    if let Some(downloads) = fetched.parent() {
        cache::remove(downloads)?;
    }
    Ok(path)
}

/// The folder with the kernel's symbols for Volatility 3, made from those of `vmlinux`.
pub(super) fn isf(
    python: &Python,
    core: &Path,
    vmlinux: &Path,
    folder: &Path,
) -> Result<PathBuf, String> {
    let symbols = folder.join("isf");
    let name = vmlinux.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = symbols.join("linux").join(format!("{name}.json.xz"));
    if !path.is_file() {
        println!("== making the symbols of Volatility 3 from {}", vmlinux.display());
        cache::create(&symbols.join("linux"))?;
        let part = symbols.join("part");
        output(python.script("isf.py").arg(core).arg(vmlinux).arg(&part))?;
        std::fs::rename(&part, &path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(symbols)
}
