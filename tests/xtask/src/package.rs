//! `cargo xtask package`: the Debian package for this machine's architecture. `arm64` and `release`
//! use it, too.
//!
//! `engine/panoptes/Cargo.toml` lists its contents; its files are in `packaging/`. Manual pages and
//! completions come from the program itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use panoptes_bounded as bounded;
use panoptes_rig::{cache, setup};

use crate::cargo;
use crate::compiled_tool::CARGO_DEB;
use crate::folders::ROOT;
use crate::platform::Platform;

/// The completions, and the names that shells look for.
pub(crate) const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "panoptes.bash"), ("zsh", "_panoptes"), ("fish", "panoptes.fish")];

/// Builds the package, prints its path, and checks it by lintian where that is installed.
pub(crate) fn run() -> Result<(), String> {
    make(&Platform::default()).map(drop)
}

/// The same for a platform; returns the path of the package.
pub(crate) fn make(platform: &Platform) -> Result<PathBuf, String> {
    let sources = Path::new(ROOT);
    prepare(sources, platform, "now")?;
    pack(sources, platform)
}

/// Packs what [`prepare`] has made of the sources in a folder; returns the path of the package.
pub(crate) fn pack(sources: &Path, platform: &Platform) -> Result<PathBuf, String> {
    let mut deb = Command::new(CARGO_DEB.obtain()?);
    platform.equip(&mut deb);
    let strip = if platform.has_stripped_programs() { "--no-strip" } else { "--strip" };
    deb.current_dir(sources).args(["--package", "panoptes", "--no-build", strip]);
    deb.args(platform.triple().iter().flat_map(|triple| ["--target", triple]));
    deb.args(platform.variant().iter().flat_map(|name| ["--variant", name]));
    let output = deb.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let output = output.and_then(|deb| bounded::wait_with_output_within(deb, bounded::LONG));
    let output = output.map_err(|error| format!("cannot start cargo-deb: {error}"))?;
    if !output.status.success() {
        return Err("cargo-deb failed; see above".to_owned());
    }
    // Its only line on standard output.
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    println!("{}", path.display());
    let depends = printed(Command::new("dpkg-deb").arg("--field").arg(&path), &["Depends"])?;
    needs_c_library(&depends)?;
    check(&path)?;
    Ok(path)
}

/// Builds the program from the sources in a folder, and makes the other files of packages, in the
/// folder [`beside`] it; returns the path of the program. `date` is that of the changelog, as
/// date(1) reads it.
pub(crate) fn prepare(sources: &Path, platform: &Platform, date: &str) -> Result<PathBuf, String> {
    setup::ensure_for_package()?;
    let mut build = platform.cargo("build");
    build.current_dir(sources).args(["--release", "--locked", "--package", "panoptes"]);
    let program = cargo::program(build, "bin", "panoptes")?;
    generate(&|| platform.run(&program), &beside(&program), date)?;
    Ok(program)
}

/// The folder of what packages have beside a program: `man` with pages, [`COMPLETIONS`], a
/// changelog.
pub(crate) fn beside(program: &Path) -> PathBuf {
    program.with_file_name("packaging")
}

/// Makes the files that the program itself prints, and the changelog in Debian's form.
fn generate(program: &dyn Fn() -> Command, folder: &Path, date: &str) -> Result<(), String> {
    let pages = folder.join("man");
    if pages.exists() {
        fs::remove_dir_all(&pages).map_err(|error| format!("{}: {error}", pages.display()))?;
    }
    cache::create(&pages)?;
    write_pages(program, &pages, &[])?;
    for (shell, name) in COMPLETIONS {
        write(&folder.join(name), &printed(&mut program(), &["completions", shell])?)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let date = format!("--date={date}");
    let date = printed(&mut Command::new("date"), &["--rfc-email", "--utc", &date])?;
    let entry = format!(
        "panoptes ({version}-1) unstable; urgency=medium\n\n  \
         * See CHANGELOG.md of the sources.\n\n \
         -- The Panoptes authors <noreply@panoptes.example>  {date}"
    );
    write(&folder.join("changelog"), &entry)?;
    compress(&[folder.join("changelog")])?;
    compress(&cache::list(&pages)?)
}

/// Replaces files by compressed ones, as Debian's policy asks of manual pages.
pub(crate) fn compress(files: &[PathBuf]) -> Result<(), String> {
    // Without times and names, so that equal files stay equal.
    cargo::must(Command::new("gzip").arg("-9nf").args(files), "gzip")
}

/// Writes the manual page of a command and those of its subcommands.
fn write_pages(
    program: &dyn Fn() -> Command,
    folder: &Path,
    command: &[String],
) -> Result<(), String> {
    let arguments: Vec<&str> =
        ["man"].into_iter().chain(command.iter().map(String::as_str)).collect();
    let page = printed(&mut program(), &arguments)?;
    let name: Vec<_> = ["panoptes"].into_iter().chain(arguments.into_iter().skip(1)).collect();
    let name = name.join("-");
    write(&folder.join(format!("{name}.1")), &page)?;
    for subcommand in subcommands(&page, &name) {
        let command: Vec<_> = command.iter().cloned().chain([subcommand]).collect();
        write_pages(program, folder, &command)?;
    }
    Ok(())
}

/// The subcommands that a manual page refers to, without `help`.
fn subcommands(page: &str, name: &str) -> Vec<String> {
    let page = page.replace("\\-", "-");
    let lines = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('-'));
    let names = lines.filter_map(|line| line.strip_suffix("(1)"));
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

fn printed(command: &mut Command, arguments: &[&str]) -> Result<String, String> {
    let name = command.get_program().display().to_string();
    let output = bounded::output_within(command.args(arguments), bounded::LONG);
    let output = output.map_err(|error| format!("cannot start {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} {} failed", arguments.join(" ")));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{name} prints no text"))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Whether a package's dependencies name the version of the C library that its program needs.
fn needs_c_library(depends: &str) -> Result<(), String> {
    let has_version = |one: &str| one.trim().starts_with("libc6 (>= ");
    if depends.split([',', '|']).any(has_version) {
        return Ok(());
    }
    let depends = depends.trim();
    Err(format!("the package does not depend on a version of libc6: {depends}"))
}

/// Checks the package by lintian, if that is installed.
fn check(package: &Path) -> Result<(), String> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error"]).arg(package);
    match bounded::status_within(&mut lintian, bounded::LONG) {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("lintian found mistakes; see above".to_owned()),
        Err(error) => {
            println!("skipped: the package needs lintian, to be checked: {error}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_must_name_its_c_library() {
        assert!(needs_c_library("libc6 (>= 2.34), libgcc-s1 (>= 4.2), procps\n").is_ok());
        let error = needs_c_library("procps, systemd | systemd-standalone-sysusers").unwrap_err();
        assert!(error.contains("procps, systemd"), "{error}");
    }

    #[test]
    fn subcommands_are_found_in_a_page() {
        // As clap_mangen writes them.
        let page = ".SH SUBCOMMANDS\n.TP\npanoptes\\-scan(1)\nTake one\n.TP\npanoptes\\-help(1)\n";
        assert_eq!(subcommands(page, "panoptes"), ["scan"]);
        assert!(subcommands(page, "panoptes-scan").is_empty());
        let page = ".TP\npanoptes\\-profile\\-build(1)\n";
        assert_eq!(subcommands(page, "panoptes-profile"), ["build"]);
    }
}
