//! The userland of a test guest: busybox, bash, the agent as init, and the modules it loads.
//!
//! bash is the host's own (with its shared libraries), or for another architecture Debian 12's,
//! because shell history is read from a real Debian bash; everything else is static.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_needs::check;

use crate::agent;
use crate::cache::{self, Scratch};
use crate::command;
use crate::cpio::Archive;
use crate::error::{Error, Result};
use crate::flavor::Architecture;
use crate::kernel::Kernel;
use crate::packages::{self, Packages};
use crate::setup;

/// Commands of busybox that workloads and users of `cargo xtask guest` run by name.
const APPLETS: &[&str] = &[
    "sh", "cat", "chroot", "cp", "dd", "dmesg", "echo", "env", "find", "free", "grep", "hexdump",
    "id", "ifconfig", "ip", "kill", "ln", "ls", "mkdir", "mknod", "mount", "nc", "netstat", "ps",
    "pwd", "rm", "route", "sed", "sleep", "stat", "sysctl", "tail", "touch", "tr", "umount",
    "uname", "unshare", "vi", "wc", "wget", "xargs",
];

/// Builds the initramfs for a kernel and returns its path (built again when anything in it
/// changed). The first call fetches a package and compiles the agent; later calls need no network.
pub fn build(kernel: &Kernel) -> Result<PathBuf> {
    let architecture = kernel.flavor().architecture;
    setup::ensure_for(architecture)?;
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "etc", "home", "proc", "root", "run", "sys", "modules", "mnt"] {
        archive.directory(folder, 0o755);
    }
    for folder in ["usr", "usr/bin", "usr/sbin", "usr/lib", "var"] {
        archive.directory(folder, 0o755);
    }
    archive.directory("tmp", 0o1777);
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.character_device("dev/null", 0o666, 1, 3);
    archive.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home:\n",
    );
    archive.file("etc/group", 0o644, b"root:x:0:\nuser:x:1000:\n");
    archive.file("etc/hostname", 0o644, b"guest\n");
    archive.file("bin/busybox", 0o755, &cache::read(&busybox(architecture)?)?);
    for applet in APPLETS {
        archive.symlink(&format!("bin/{applet}"), "busybox");
    }
    match architecture {
        Architecture::Amd64 => add_bash(&mut archive)?,
        Architecture::Arm64 => add_arm64_bash(&mut archive)?,
    }
    archive.file("init", 0o755, &cache::read(&agent::build(architecture)?)?);
    add_modules(&mut archive, &kernel.modules()?, "modules/list")?;
    keep(archive, cache::folder("initramfs")?.join(format!("{}.cpio", kernel.release())))
}

/// Adds modules, and a list of them in loading order, which it returns; the folder `modules` must
/// exist.
pub(crate) fn add_modules(
    archive: &mut Archive,
    modules: &[PathBuf],
    list: &str,
) -> Result<String> {
    let mut order = String::new();
    for module in modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        archive.file(&format!("modules/{name}"), 0o644, &cache::read(module)?);
        let _ = writeln!(order, "/modules/{name}");
    }
    archive.file(list, 0o644, order.as_bytes());
    Ok(order)
}

/// Writes an archive, unless it already exists.
pub(crate) fn keep(archive: Archive, path: PathBuf) -> Result<PathBuf> {
    let bytes = archive.finish();
    if cache::read(&path).is_ok_and(|old| old == bytes) {
        return Ok(path);
    }
    cache::write(&path, &bytes)?;
    Ok(path)
}

/// An initramfs with more programs and modules, in a guest's own folder; the given one if there are
/// none.
pub(crate) fn with_more(
    initramfs: PathBuf,
    files: &[(String, PathBuf)],
    modules: &[PathBuf],
    folder: &Path,
) -> Result<PathBuf> {
    if files.is_empty() && modules.is_empty() {
        return Ok(initramfs);
    }
    // The kernel accepts several archives one after another.
    let mut bytes = cache::read(&initramfs)?;
    let mut archive = Archive::default();
    let mut names = String::new();
    for (name, path) in files {
        archive.file(name, 0o755, &cache::read(path)?);
        let _ = writeln!(names, "/{name}");
    }
    names.push_str(&add_modules(&mut archive, modules, "modules/more")?);
    // For roots on disks, to which the files are copied.
    archive.file("modules/files", 0o644, names.as_bytes());
    bytes.extend(archive.finish());
    let path = folder.join("initramfs");
    cache::write(&path, &bytes)?;
    Ok(path)
}

/// A static busybox: unpacked from Debian's package, because installing that would remove
/// `busybox`.
pub(crate) fn busybox(architecture: Architecture) -> Result<PathBuf> {
    let path = cache::folder("tools")?.join(format!("busybox-{}", architecture.debian()));
    if path.exists() {
        return Ok(path);
    }
    let package = Packages::open(architecture)?.download("busybox-static")?;
    let scratch = scratch()?;
    packages::unpack(&package, &scratch)?;
    let found = ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|p| scratch.join(p))
        .find(|p| p.is_file())
        .ok_or_else(|| Error::new("the package busybox-static holds no busybox"))?;
    cache::write(&path, &cache::read(&found)?)?;
    Ok(path)
}

/// A folder to unpack a package in.
fn scratch() -> Result<Scratch> {
    Scratch::new(cache::folder("tools")?.join(format!(".unpack-{}", std::process::id())))
}

/// Adds the host's bash and the libraries that the loader lists for it.
fn add_bash(archive: &mut Archive) -> Result<()> {
    check::require(&["bash", "ldd"]).map_err(Error::new)?;
    let bash = Path::new("/bin/bash");
    archive.file("usr/bin/bash", 0o755, &cache::read(bash)?);
    archive.symlink("bin/bash", "../usr/bin/bash");
    let listed = command::output(Command::new("ldd").arg(bash))?;
    // "libtinfo.so.6 => /lib/x86_64-linux-gnu/libtinfo.so.6 (0x…)" and "/lib64/ld-… (0x…)"
    let libraries = listed.lines().filter_map(|line| {
        line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned)
    });
    let mut folders = BTreeSet::new();
    for library in libraries {
        let path = Path::new(&library);
        for parent in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let name = parent.to_string_lossy().into_owned();
            if name != "/" && !name.starts_with("/usr/lib/.") && folders.insert(name.clone()) {
                archive.directory(&name, 0o755);
            }
        }
        archive.file(&library, 0o755, &cache::read(path)?);
    }
    Ok(())
}

/// Adds Debian 12's arm64 bash and the libraries that it needs, unpacked from their packages.
fn add_arm64_bash(archive: &mut Archive) -> Result<()> {
    const FILES: [(&str, &str, &str); 4] = [
        ("bash/bookworm", "bin/bash", "usr/bin/bash"),
        ("libtinfo6/bookworm", "lib/aarch64-linux-gnu/libtinfo.so.6", "lib/libtinfo.so.6"),
        ("libc6/bookworm", "lib/aarch64-linux-gnu/libc.so.6", "lib/libc.so.6"),
        (
            "libc6/bookworm",
            "lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
            "lib/ld-linux-aarch64.so.1",
        ),
    ];
    archive.directory("lib", 0o755);
    let tools = cache::folder("tools")?.join("bash-arm64");
    if !FILES.iter().all(|(_, _, name)| tools.join(name).is_file()) {
        let packages = Packages::open(Architecture::Arm64)?;
        let scratch = scratch()?;
        for (package, path, name) in FILES {
            packages::unpack(&packages.download(package)?, &scratch)?;
            let target = tools.join(name);
            cache::create(target.parent().unwrap_or(&tools))?;
            cache::write(&target, &cache::read(&scratch.join(path))?)?;
        }
    }
    for (_, _, name) in FILES {
        archive.file(name, 0o755, &cache::read(&tools.join(name))?);
    }
    archive.symlink("bin/bash", "../usr/bin/bash");
    Ok(())
}
