//! A Debian 12 root, made from packages: for guests that need more than busybox.
//!
//! A folder on the host ([`debian`]) and a guest's root ([`Userland::Debian`]) have the same
//! content. So the content is known outside, file by file, as for a reference of what should run.
//! It is a dpkg root (`var/lib/dpkg` has the status, lists and md5sums), though no maintainer
//! script ever ran, and it lacks what slim images lack: documentation, manual pages, translations.
//!
//! A second one ([`Userland::Equipped`]) has many more programs, too many to unpack into a guest's
//! memory: it is on the guest's first disk, and guests' writes are discarded.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use panoptes_bounded as bounded;
use sha2::{Digest as _, Sha256};

use crate::agent;
use crate::cache::{self, Scratch};
use crate::command;
use crate::cpio::Archive;
use crate::disk::{self, Format};
use crate::error::{Error, Result};
use crate::flavor::Architecture;
use crate::initramfs;
use crate::kernel::Kernel;
use crate::packages::Packages;

/// The content of a guest's root. The agent is init in each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Userland {
    /// busybox and bash: small, and quick to boot.
    Busybox,
    /// Debian 12 (about 85 MB in the guest's memory, twice that while it boots).
    Debian,
    /// As `Debian`, with interpreters, more shells, servers and their clients, on a disk of its own
    /// (`/dev/vda`); x86-64.
    Equipped,
}

/// The suite of the packages.
const SUITE: &str = "bookworm";

/// The packages; their dependencies are added.
const PACKAGES: &[&str] = &[
    "base-files",
    "bash",
    "busybox-static",
    "coreutils",
    "crun",
    "dash",
    "diffutils", // a dependency of dpkg
    "dpkg",
    "findutils",
    "grep",
    "libc-bin",
    "libc6",
    "libpython3.11-stdlib", // ctypes, socket, zlib
    "mount",
    "procps",
    "python3-minimal",
    "runc",
    "sed",
    "usr-is-merged", // otherwise `usrmerge`, which needs perl
    "util-linux",
    "zlib1g",
];

/// The additional packages of [`Userland::Equipped`].
const MORE_PACKAGES: &[&str] = &[
    "apt",
    "bsdutils", // script
    "cron",
    "curl",
    "dropbear-bin",
    "expect",
    "fcgiwrap",
    "gawk",
    "gcc",
    "git",
    "gjs", // SpiderMonkey
    "libc6-dev",
    "lighttpd",
    "logrotate",
    "lua-socket",
    "lua5.4",
    "luajit",
    "make",
    "mariadb-client-core",
    "mariadb-server-core",
    "nano",
    "ncurses-base", // terminal descriptions for tmux
    "netcat-openbsd",
    "netcat-traditional",
    "nginx",
    "nodejs",
    "openjdk-17-jre-headless",
    "openssh-client",
    "openssh-server",
    "openssl",
    "passwd",
    "patch",
    "perl",
    "php8.2-cli",
    "postgresql-client-15",
    "redis-server",
    "rsync",
    "ruby3.1",
    "screen",
    "socat",
    "sudo",
    "systemd", // systemd-socket-activate
    "telnetd-ssl",
    "tmux",
    "ucspi-tcp", // tcpserver
    "vim-tiny",
    "zsh",
];

/// Folders left out of every package, as in slim images.
const LEFT_OUT: &[&str] =
    &["./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/share/info"];

/// Folders that are links into /usr.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Folders that are in no package, or that must exist before the first is unpacked.
const FOLDERS: &[&str] = &[
    "dev",
    "etc",
    "mnt",
    "modules",
    "opt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "var/lib/dpkg/info",
];

/// Files that maintainer scripts would have made.
const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home:/bin/bash\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nuser:x:1000:\n"),
    ("etc/hostname", "guest\n"),
    // Without it dpkg expects lists without an architecture in their names.
    ("var/lib/dpkg/info/format", "1\n"),
    ("etc/hosts", "127.0.0.1 localhost guest\n"),
];

/// Links that maintainer scripts would have made.
const LINKS: &[(&str, &str)] =
    &[("usr/bin/awk", "mawk"), ("usr/bin/nc", "busybox"), ("usr/bin/ip", "busybox")];

/// Files that maintainer scripts would have made for the additional packages of
/// [`Userland::Equipped`].
const MORE_FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home:/bin/bash\n\
         sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n\
         www-data:x:33:33::/var/www:/usr/sbin/nologin\n\
         nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "etc/group",
        "root:x:0:\ntty:x:5:\nutmp:x:43:\nwww-data:x:33:\nuser:x:1000:\nnogroup:x:65534:\n",
    ),
    ("etc/shadow", "root:*:19000:0:99999:7:::\nuser:*:19000:0:99999:7:::\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"),
    ("etc/shells", "/bin/sh\n/bin/bash\n"),
    // The PAM stack of sshd's sessions: as on any Debian, without modules that need a name service
    // or systemd.
    ("etc/pam.d/common-auth", "auth required pam_unix.so\n"),
    ("etc/pam.d/common-account", "account required pam_unix.so\n"),
    ("etc/pam.d/common-password", "password required pam_unix.so\n"),
    ("etc/pam.d/common-session", "session required pam_unix.so\n"),
    ("etc/pam.d/common-session-noninteractive", "session required pam_unix.so\n"),
];

/// Links that alternatives would have made for those packages.
const MORE_LINKS: &[(&str, &str)] = &[
    ("usr/bin/php", "php8.2"),
    ("usr/bin/lua", "lua5.4"),
    ("usr/bin/ruby", "ruby3.1"),
    ("usr/bin/java", "../lib/jvm/java-17-openjdk-amd64/bin/java"),
    ("usr/bin/psql", "../lib/postgresql/15/bin/psql"),
];

/// Everything that a root depends on.
#[derive(Debug)]
struct Recipe {
    packages: Vec<&'static str>,
    files: Vec<(&'static str, &'static str)>,
    links: Vec<(&'static str, &'static str)>,
}

impl Recipe {
    /// Entries of the equipped root come after the others and override them.
    fn new(equipped: bool) -> Self {
        let (mut packages, mut files, mut links) =
            (PACKAGES.to_vec(), FILES.to_vec(), LINKS.to_vec());
        if equipped {
            packages.extend(MORE_PACKAGES);
            files.extend(MORE_FILES);
            links.extend(MORE_LINKS);
        }
        Self { packages, files, links }
    }

    fn text(&self) -> String {
        format!("{self:?}\n{LEFT_OUT:?}\n{MERGED:?}\n{FOLDERS:?}\n")
    }
}

/// The root as a folder of the host; the first call creates it from packages, which are kept.
pub fn debian(architecture: Architecture) -> Result<PathBuf> {
    let folder = cache::folder("userland")?.join(format!("{SUITE}-{}", architecture.debian()));
    root(architecture, &folder, &Recipe::new(false), "32 MB")
}

/// The root with more programs, in the same way.
pub fn equipped() -> Result<PathBuf> {
    let architecture = Architecture::Amd64;
    let name = format!("{SUITE}-{}-equipped", architecture.debian());
    root(architecture, &cache::folder("userland")?.join(name), &Recipe::new(true), "210 MB")
}

fn root(architecture: Architecture, folder: &Path, recipe: &Recipe, size: &str) -> Result<PathBuf> {
    cache::create(folder)?;
    let (root, stamp) = (folder.join("root"), folder.join("made-of"));
    if !std::fs::read_to_string(&stamp).is_ok_and(|old| old == recipe.text()) {
        eprintln!("rig: making a Debian root from packages ({size}, kept in the cache)");
        make(architecture, recipe, folder, &root)?;
        cache::write(&stamp, recipe.text().as_bytes())?;
    }
    // The agent changes more often than the packages do.
    let (init, program) = (root.join("init"), cache::read(&agent::build(architecture)?)?);
    if !cache::read(&init).is_ok_and(|old| old == program) {
        cache::write(&init, &program)?;
        set_mode(&init, 0o755)?;
    }
    Ok(root)
}

/// The packages that the root was made of, in one folder.
pub fn packages(architecture: Architecture) -> Result<PathBuf> {
    let root = debian(architecture)?;
    Ok(root.with_file_name("packages"))
}

fn make(architecture: Architecture, recipe: &Recipe, folder: &Path, root: &Path) -> Result<()> {
    let packages = Packages::open(architecture)?;
    let debs = packages.closure(SUITE, &recipe.packages, &folder.join("packages"))?;
    let scratch = Scratch::new(folder.join(format!(".making-{}", std::process::id())))?;
    for name in FOLDERS {
        cache::create(&scratch.join(name))?;
    }
    for name in MERGED {
        cache::create(&scratch.join("usr").join(name))?;
        cache::symlink(&format!("usr/{name}"), &scratch.join(name))?;
    }
    let mut status = String::new();
    for deb in &debs {
        extract(deb, &scratch)?;
        status.push_str(&register(deb, &scratch)?);
    }
    cache::write(&scratch.join("var/lib/dpkg/status"), status.as_bytes())?;
    for (name, content) in &recipe.files {
        let path = scratch.join(name);
        cache::create(path.parent().unwrap_or(&scratch))?;
        cache::write(&path, content.as_bytes())?;
    }
    for (name, target) in &recipe.links {
        let path = scratch.join(name);
        if !path.exists() {
            cache::symlink(target, &path)?;
        }
    }
    cache::remove(root)?;
    cache::rename(&scratch, root)
}

/// Unpacks a package's files, through the links of merged folders.
fn extract(deb: &Path, root: &Path) -> Result<()> {
    let mut unpacking = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Error::new(format!("cannot start dpkg-deb: {e}")))?;
    let stream = unpacking.stdout.take().ok_or_else(|| Error::new("dpkg-deb has no output"))?;
    let mut tar = Command::new("tar");
    tar.args([
        "--extract",
        "--keep-directory-symlink",
        "--no-same-owner",
        "--preserve-permissions",
    ]);
    tar.args(LEFT_OUT.iter().map(|path| format!("--exclude={path}")));
    let done = command::output_from(tar.arg("--directory").arg(root), stream);
    let status = bounded::wait(&mut unpacking).map_err(|e| Error::new(format!("dpkg-deb: {e}")))?;
    done?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new(format!("dpkg-deb cannot unpack {} ({status})", deb.display())))
    }
}

/// Registers a package as installed in dpkg's database and returns its stanza of the status.
fn register(deb: &Path, root: &Path) -> Result<String> {
    let field = |name: &str| -> Result<String> {
        let value = command::output(Command::new("dpkg-deb").arg("--field").arg(deb).arg(name))?;
        Ok(value.trim().to_owned())
    };
    let mut name = field("Package")?;
    if field("Multi-Arch")? == "same" {
        let _ = write!(name, ":{}", field("Architecture")?);
    }
    let info = root.join("var/lib/dpkg/info");
    // ./usr/bin/ → /usr/bin, and the root itself as /.
    let listed = command::output(Command::new("dpkg-deb").arg("--contents").arg(deb))?;
    let mut list = String::new();
    for line in listed.lines() {
        let Some((_, path)) = line.split_once(" ./") else { continue };
        let path = path.split(" -> ").next().unwrap_or(path).trim_end_matches('/');
        let _ = writeln!(list, "/{}", if path.is_empty() { "." } else { path });
    }
    cache::write(&info.join(format!("{name}.list")), list.as_bytes())?;
    let sums = command::output(Command::new("dpkg-deb").arg("--info").arg(deb).arg("md5sums"));
    if let Ok(sums) = sums {
        cache::write(&info.join(format!("{name}.md5sums")), sums.as_bytes())?;
    }
    let stanza = command::output(Command::new("dpkg-deb").arg("--field").arg(deb))?;
    let (first, rest) = stanza.split_once('\n').unwrap_or((&stanza, ""));
    Ok(format!("{first}\nStatus: install ok installed\n{}\n\n", rest.trim_end()))
}

/// The initramfs of a guest with this root, for a kernel; built again when anything in it changed.
pub(crate) fn build(kernel: &Kernel) -> Result<PathBuf> {
    let root = debian(kernel.flavor().architecture)?;
    let mut archive = Archive::default();
    archive.tree(&root)?;
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.character_device("dev/null", 0o666, 1, 3);
    initramfs::add_modules(&mut archive, &kernel.modules()?, "modules/list")?;
    let path = cache::folder("initramfs")?.join(format!("{}-debian.cpio", kernel.release()));
    initramfs::keep(archive, path)
}

/// Minimum free space on the guests' disk.
const DISK_MIB: u64 = 2048;

/// The disk of [`Userland::Equipped`], and the initramfs that boots a kernel from it: the agent,
/// and modules.
///
/// `modules` are those for the disk, in loading order.
pub(crate) fn build_equipped(kernel: &Kernel, modules: &[PathBuf]) -> Result<(PathBuf, PathBuf)> {
    let root = equipped()?;
    let (image, stamp) = (root.with_file_name("disk"), root.with_file_name("disk-made-of"));
    let agent = cache::read(&root.join("init"))?;
    let mut made_of = Recipe::new(true).text();
    let _ = write!(made_of, "{:?}", Sha256::digest(&agent).as_slice());
    if !image.exists() || !std::fs::read_to_string(&stamp).is_ok_and(|old| old == made_of) {
        let partial = image.with_extension(format!("partial-{}", std::process::id()));
        disk::make(Format::Ext4, &partial, DISK_MIB, Some(&root), &["-E", "root_owner=0:0"])?;
        cache::rename(&partial, &image)?;
        cache::write(&stamp, made_of.as_bytes())?;
    }
    let mut archive = Archive::default();
    // Guests' additional files are in `opt` until they are copied to the disk.
    for folder in ["dev", "modules", "opt", ROOT_ON_DISK] {
        archive.directory(folder, 0o755);
    }
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.character_device("dev/null", 0o666, 1, 3);
    archive.file("init", 0o755, &agent);
    initramfs::add_modules(&mut archive, &kernel.modules()?, "modules/list")?;
    initramfs::add_modules(&mut archive, modules, "modules/disk")?;
    let path = cache::folder("initramfs")?.join(format!("{}-equipped.cpio", kernel.release()));
    Ok((initramfs::keep(archive, path)?, image))
}

/// With this folder in the initramfs, the root is on the first disk (tests/agent/boot.c).
const ROOT_ON_DISK: &str = "root-on-disk";

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(|e| Error::io("set the mode of", path, &e))
}
