//! Packages of distributions, and the container image.

use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_rig::cache;

use super::archive;
use super::sources::ReleaseSources;
use super::step::ReleaseStep;
use super::tools;
use crate::platform::Platform;
use crate::{cargo, glibc, image, package};

/// Makes the Debian packages.
pub(super) fn make_debs(sources: &ReleaseSources) -> Result<(), String> {
    for platform in platforms(sources)? {
        check_program(sources, &platform)?;
        let package = package::pack(&sources.folder, &platform)?;
        let name = package.file_name().ok_or("the package has no name")?;
        cache::copy(&package, &sources.page.join(name))?;
    }
    Ok(())
}

/// Makes the RPM packages.
pub(super) fn make_rpms(sources: &ReleaseSources) -> Result<(), String> {
    for platform in platforms(sources)? {
        check_program(sources, &platform)?;
        let mut rpm = Command::new(tools::GENERATE_RPM.obtain()?);
        rpm.current_dir(&sources.folder).args(["--package", "engine/panoptes"]);
        rpm.args(platform.triple().iter().flat_map(|triple| ["--target", triple]));
        rpm.arg("--output").arg(&sources.page);
        platform.equip(&mut rpm);
        cargo::must(&mut rpm, "cargo-generate-rpm")?;
    }
    Ok(())
}

/// Makes the archive of the container image. `own_base` allows base images that are made here.
pub(super) fn make_image(sources: &ReleaseSources, own_base: bool) -> Result<(), String> {
    let scratch = sources.scratch("image")?;
    let name = ReleaseStep::Image.files().concat();
    let path = scratch.join(&name);
    let flags = sources.container_flags();
    image::archive(&sources.folder, sources.epoch, &flags, own_base, &path)?;
    let unpacked = sources.scratch("image-unpacked")?;
    archive::normalise(&path, sources.epoch, &unpacked)?;
    sources.check_paths(&image_program(&unpacked, &sources.scratch("image-program")?)?)?;
    Ok(cache::copy(&path, &sources.page.join(name))?)
}

/// Unpacks the program of an unpacked image in the OCI's form into an empty folder; its path.
fn image_program(image: &Path, folder: &Path) -> Result<PathBuf, String> {
    let program = folder.join("usr/bin/panoptes");
    for blob in cache::list(&image.join("blobs/sha256"))? {
        // Others are layers without it, or no archives.
        let _ = archive::unpack_one(&blob, folder, "usr/bin/panoptes");
        if program.is_file() {
            return Ok(program);
        }
    }
    Err("no layer of the image has the program".to_owned())
}

/// This machine, and arm64 machines. Programs use the C library of either.
fn platforms(sources: &ReleaseSources) -> Result<[Platform; 2], String> {
    Ok([Platform::default(), Platform::arm64()?].map(|platform| sources.platform(platform, &[])))
}

/// Refuses a program that needs a newer C library than the packages require. It is built unless an
/// earlier step has done so.
fn check_program(sources: &ReleaseSources, platform: &Platform) -> Result<(), String> {
    let program = sources.program(platform)?;
    glibc::check(&String::from_utf8_lossy(&cache::read(&program)?)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::folders::{ROOT, Temporary};

    /// Files that only Debian packages have.
    const OF_DEBIAN: [&str; 2] =
        ["packaging/deb/copyright", "target/release/packaging/changelog.gz"];
    /// Files that Debian packages get by other keys, and that of Debian's own copy.
    const OF_RPM: [&str; 3] = [
        "LICENSE",
        "packaging/systemd/panoptes-flow.service",
        "packaging/systemd/panoptes.service",
    ];

    #[test]
    fn the_program_of_an_image_is_found_in_its_layer() {
        let folder = Temporary::new("release-layers").expect("there is room");
        let at = |path: &str| folder.0.join(path);
        for path in ["image/blobs/sha256", "layer/usr/bin", "layer/etc", "to", "to-none"] {
            fs::create_dir_all(at(path)).expect("there is room");
        }
        fs::write(at("layer/usr/bin/panoptes"), "program").expect("there is room");
        fs::write(at("image/blobs/sha256/0"), "{}").expect("there is room");
        let layer = |entry: &str, name: &str| {
            let archive = at("image/blobs/sha256").join(name);
            archive::pack(&at("layer"), &[entry], 7, &archive).expect("tar packs it");
        };
        layer("etc", "1");
        assert!(image_program(&at("image"), &at("to-none")).is_err());
        layer("usr", "2");
        let program = image_program(&at("image"), &at("to")).expect("a layer has it");
        assert_eq!(fs::read_to_string(program).expect("it exists"), "program");
    }

    fn manifest() -> String {
        let path = Path::new(ROOT).join("engine/panoptes/Cargo.toml");
        fs::read_to_string(path).expect("it exists")
    }

    /// The lines between a line of the manifest and the next `]` at the left.
    fn list<'a>(manifest: &'a str, section: &str) -> Vec<&'a str> {
        let (_, rest) = manifest.split_once(section).expect("the section exists");
        let (_, rest) = rest.split_once("\nassets = [\n").expect("it has files");
        rest.split_once("\n]\n").expect("the list ends").0.lines().collect()
    }

    /// The text in quotes of a line, by its place.
    fn quoted(line: &str, number: usize) -> &str {
        line.split('"').nth(2 * number + 1).unwrap_or_default()
    }

    #[test]
    fn both_kinds_of_package_have_the_same_files() {
        let manifest = manifest();
        let deb = list(&manifest, "[package.metadata.deb]");
        let rpm = list(&manifest, "[package.metadata.generate-rpm]");
        // Debian's are relative to the package's folder, but for what is built.
        let of_root = |source: &str| match source.strip_prefix("../../") {
            Some(source) => source.to_owned(),
            None if source.starts_with("target/") => source.to_owned(),
            None => format!("engine/panoptes/{source}"),
        };
        let mut expected: BTreeSet<String> =
            deb.iter().map(|line| of_root(quoted(line, 0))).collect();
        for name in OF_DEBIAN {
            assert!(expected.remove(name), "{name}: {expected:?}");
        }
        expected.extend(OF_RPM.map(str::to_owned));
        let found: BTreeSet<String> = rpm.iter().map(|line| quoted(line, 0).to_owned()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn configuration_is_replaced_by_neither_kind_of_package() {
        let manifest = manifest();
        let (_, rest) = manifest.split_once("\nconf-files = [\n").expect("it has some");
        let files = rest.split_once("\n]\n").expect("the list ends").0.lines();
        let deb: BTreeSet<&str> = files.map(|line| quoted(line, 0)).collect();
        let rpm = list(&manifest, "[package.metadata.generate-rpm]");
        let kept = rpm.iter().filter(|line| line.contains("config = \"noreplace\""));
        assert_eq!(kept.map(|line| quoted(line, 1)).collect::<BTreeSet<_>>(), deb);
    }

    #[test]
    fn packages_require_the_c_library_that_programs_may_need() {
        let (major, minor) = glibc::GLIBC_MAX;
        let rpm = format!("\"libc.so.6(GLIBC_{major}.{minor})(64bit)\" = \"*\"\n");
        assert!(manifest().contains(&rpm), "{rpm}");
        let arm64 = format!("depends = \"libc6 (>= {major}.{minor}), ");
        assert!(manifest().contains(&arm64), "{arm64}");
    }
}
