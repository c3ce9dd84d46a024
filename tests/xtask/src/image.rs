//! `cargo xtask image`: the container image, built by its recipe with podman, and run. `release`
//! uses it, too.
//!
//! A base image that no registry gives is made here instead: of the Debian packages that it has,
//! by mmdebstrap, and with this machine's Rust. The recipe is the same. A release refuses such an
//! image unless `--own-base` allows it, and the image states it by [`OWN_BASE`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use panoptes_bounded as bounded;
use panoptes_rig::{cache, output, setup};

use crate::cargo;
use crate::folders::ROOT;

const RECIPE: &str = "packaging/container/Containerfile";
const NAME: &str = "localhost/panoptes";
/// A release of Debian, as its packages name it. `release` tries packages in a root of it.
pub(crate) const SUITE: &str = "bookworm";

/// The label of an image whose base was made here.
const OWN_BASE: &str = "panoptes.base=own";

/// A base image of the recipe, and what is made if it cannot be had.
struct Base {
    image: &'static str,
    variant: &'static str,
    packages: &'static str,
    /// Shell commands of mmdebstrap for the root `$1`.
    hook: &'static str,
}

/// The folders of the sources and of cargo in the first base image; cargo's where it is made here
/// is that of root.
pub(crate) const SOURCES: &str = "/src";
pub(crate) const CARGO_HOMES: [&str; 2] = ["/usr/local/cargo", "/root/.cargo"];
/// The folder of its Rust, in either case.
pub(crate) const RUSTUP_HOME: &str = "/usr/local/rustup";

const BASES: [Base; 2] = [
    Base {
        image: "docker.io/library/rust:1.95-bookworm",
        variant: "minbase",
        packages: "ca-certificates,gcc,libc6-dev",
        hook: "true",
    },
    Base {
        image: "gcr.io/distroless/cc-debian12",
        // No scripts of packages, no shell.
        variant: "extract",
        packages: "base-files,ca-certificates,libc6,libgcc-s1,libssl3,libstdc++6,netbase,tzdata",
        hook: "mkdir -p $1/etc/ssl/certs && cat $1/usr/share/ca-certificates/mozilla/*.crt \
               > $1/etc/ssl/certs/ca-certificates.crt",
    },
];

pub(crate) fn run() -> Result<(), String> {
    build(Path::new(ROOT), &[], true)?;
    use_it()?;
    println!("{}", output(podman("images")?.arg(NAME))?.trim_end());
    Ok(())
}

/// Builds the image from the sources in a folder, with all its times at `epoch`, in seconds since
/// 1970, and with these options of rustc; runs it, and writes it into an archive as the OCI
/// specifies images. `own_base` allows base images that are made here.
pub(crate) fn archive(
    sources: &Path,
    epoch: u64,
    flags: &str,
    own_base: bool,
    path: &Path,
) -> Result<(), String> {
    let options = [
        // A layer of an earlier build would be no second build.
        "--no-cache".to_owned(),
        format!("--timestamp={epoch}"),
        format!("--build-arg=RUSTFLAGS={flags}"),
    ];
    build(sources, &options, own_base)?;
    use_it()?;
    let mut save = podman("save")?;
    succeeds(save.args(["--quiet", "--format", "oci-archive", "--output"]).arg(path).arg(NAME))
}

/// Loads the image of such an archive, runs it, and removes it. An image of its name is removed
/// before, so that no other one runs.
pub(crate) fn try_archive(path: &Path) -> Result<(), String> {
    remove()?;
    succeeds(podman("load")?.args(["--quiet", "--input"]).arg(path))?;
    let used = use_it();
    let removed = remove();
    used.and(removed)
}

/// Removes the image, if there is one.
fn remove() -> Result<(), String> {
    if cargo::succeeds(podman("image")?.args(["exists", NAME]))? {
        succeeds(podman("rmi")?.args(["--force", NAME]))?;
    }
    Ok(())
}

/// Builds the image from the sources in a folder, with more options of podman. `own_base` allows
/// base images that are made here.
fn build(sources: &Path, options: &[String], own_base: bool) -> Result<(), String> {
    let mut are_stood_in = false;
    for base in &BASES {
        are_stood_in |= obtain(base, own_base)?;
    }
    let mut build = podman("build")?;
    // chroot: without a network of its own, which takes a plug-in.
    build.args(["--isolation", "chroot", "--pull=never", "--tag", NAME]);
    build.args(["--file", RECIPE, "--ignorefile", &format!("{RECIPE}.containerignore")]);
    if are_stood_in {
        println!("the image's base is made here: its label is {OWN_BASE}");
        build.arg(format!("--label={OWN_BASE}"));
        build.args(toolchain()?);
    }
    succeeds(build.args(options).arg(".").current_dir(sources))
}

/// Runs the image.
fn use_it() -> Result<(), String> {
    for arguments in [&["--version"][..], &["check", "/etc/panoptes/panoptes.yaml"]] {
        println!("== panoptes {}", arguments.join(" "));
        succeeds(contained()?.arg(NAME).args(arguments))?;
    }
    Ok(())
}

/// Pulls a base image unless it is there, or makes one in its place if `own_base` allows it.
/// Returns whether it was made.
fn obtain(base: &Base, own_base: bool) -> Result<bool, String> {
    let label = "{{.Labels.standin}}";
    let known = output(podman("image")?.args(["inspect", "--format", label, base.image]));
    // One that an earlier command has made is replaced where that is not allowed.
    if let Ok(is_made) = known.map(|label| label.trim() == "yes")
        && (own_base || !is_made)
    {
        return Ok(is_made);
    }
    if bounded::status_within(podman("pull")?.arg(base.image), bounded::LONG)
        .is_ok_and(|status| status.success())
    {
        return Ok(false);
    }
    if !own_base {
        return Err(format!("no registry gives {}; --own-base makes one here", base.image));
    }
    println!("{} cannot be had; making one of Debian's packages", base.image);
    setup::ensure_for_roots()?;
    let folder = folder()?;
    let archive = folder.join("base.tar");
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--mode=root"]);
    make.arg(format!("--variant={}", base.variant)).arg(format!("--include={}", base.packages));
    make.arg(format!("--customize-hook={}", base.hook)).arg(SUITE).arg(&archive);
    succeeds(&mut make)?;
    let mut import = podman("import")?;
    import.args(["--change", "LABEL standin=yes"]);
    import.args(["--change", "ENV PATH=/usr/local/cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    succeeds(
        import
            .args(["--change", &format!("ENV RUSTUP_HOME={RUSTUP_HOME}")])
            .arg(&archive)
            .arg(base.image),
    )?;
    std::fs::remove_file(&archive).map_err(|e| format!("{}: {e}", archive.display()))?;
    Ok(true)
}

/// The options that give a build this machine's Rust and the crates that were fetched for it.
fn toolchain() -> Result<Vec<String>, String> {
    let home = std::env::var("HOME").map_err(|_| "HOME is not set".to_owned())?;
    let folder = |name: &str, default: &str| {
        std::env::var(name).unwrap_or_else(|_| format!("{home}/{default}"))
    };
    let (rustup, cargo) = (folder("RUSTUP_HOME", ".rustup"), folder("CARGO_HOME", ".cargo"));
    Ok(vec![
        format!("--volume={rustup}:{RUSTUP_HOME}:ro"),
        format!("--volume={cargo}/bin:/usr/local/cargo/bin:ro"),
        // Crates are taken from here; what is unpacked stays in the build.
        format!("--volume={cargo}/registry:/root/.cargo/registry:rw"),
    ])
}

/// A command that runs a container, with limits that need no permission to raise any.
fn contained() -> Result<Command, String> {
    let mut command = podman("run")?;
    command.args(["--rm", "--network=none", "--cap-drop=all", "--read-only"]);
    command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
    Ok(command)
}

/// A command of podman, whose images are in the cache.
fn podman(command: &str) -> Result<Command, String> {
    let folder = folder()?;
    let mut podman = Command::new("podman");
    podman.arg("--root").arg(folder.join("root")).arg("--runroot").arg(folder.join("run"));
    // runc runs under every form of cgroups; vfs works on every file system.
    podman.args(["--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
    podman.arg(command).stdin(Stdio::null());
    Ok(podman)
}

fn folder() -> Result<PathBuf, String> {
    Ok(cache::folder("podman")?)
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    let name = Path::new(command.get_program()).display().to_string();
    let missing = |error| format!("{error}; it needs podman, runc and mmdebstrap");
    let succeeds = cargo::succeeds(command).map_err(missing)?;
    succeeds.then_some(()).ok_or_else(|| format!("{name} failed; see above"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bases_are_those_of_the_recipe() {
        let recipe = std::fs::read_to_string(Path::new(ROOT).join(RECIPE)).expect("it exists");
        let images =
            recipe.lines().filter_map(|line| line.strip_prefix("FROM ")?.split(' ').next());
        assert!(images.eq(BASES.iter().map(|base| base.image)));
        assert!(recipe.contains(&format!("\nWORKDIR {SOURCES}\n")));
        assert!(recipe.contains("\nARG RUSTFLAGS\n"));
    }
}
