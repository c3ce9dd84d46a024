//! Installs Debian packages that are missing, as root, and names them; others get the command.

use std::process::Command;

use crate::table::NEEDS;
use crate::{Need, User, Without, check};

/// Needs of some users that this machine lacks and that a package brings.
pub fn missing(users: &[User]) -> Vec<&'static Need> {
    let is_missing = |need: &&Need| {
        users.contains(&need.user) && matches!(need.without, Without::Install(_)) && !need.is_met()
    };
    NEEDS.iter().filter(is_missing).collect()
}

/// The packages of needs, each once.
pub fn packages(needs: &[&'static Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs
        .iter()
        .filter_map(|need| match need.without {
            Without::Install(package) => Some(package),
            _ => None,
        })
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs what is missing of the needs of some users.
///
/// # Errors
///
/// One line: this user may not install, this machine is no Debian, or apt failed.
pub fn ensure(users: &[User]) -> Result<(), String> {
    install(&missing(users))
}

/// Installs what is missing of these needs.
///
/// # Errors
///
/// As [`ensure`].
///
/// # Panics
///
/// The table has no such row.
pub fn ensure_named(names: &[&str]) -> Result<(), String> {
    let needs: Vec<_> = names.iter().map(|name| Need::named(name)).collect();
    install(&needs.into_iter().filter(|need| !need.is_met()).collect::<Vec<_>>())
}

fn install(missing: &[&'static Need]) -> Result<(), String> {
    let packages = packages(missing);
    if packages.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if check::program("apt-get").is_none() {
        return Err(format!(
            "the Debian packages {} are needed; this machine has no apt-get",
            packages.join(", ")
        ));
    }
    if !is_root()? {
        return Err(format!("packages are missing; as root, run: {line}"));
    }
    eprintln!("xtask: installing {} ({line})", packages.join(", "));
    if !has_package_lists() {
        apt(&["update"])?;
    }
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&packages);
    if apt(&install).is_err() {
        // The lists may be older than the mirror: retry with fresh ones.
        apt(&["update"])?;
        apt(&install)?;
    }
    match missing.iter().find(|need| !need.is_met()) {
        None => Ok(()),
        Some(need) => {
            Err(format!("{} is still missing after: {line}; is this Debian on amd64?", need.name))
        }
    }
}

/// Whether this process is root's.
pub fn is_root() -> Result<bool, String> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn has_package_lists() -> bool {
    std::fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

fn apt(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.arg("-q").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    // debconf would complain about a locale that this machine lacks.
    output(command.env("LC_ALL", "C")).map(drop)
}

/// Runs a program to its end; returns its output.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let arguments: Vec<_> =
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let done = command.output().map_err(|error| format!("cannot start {name}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&done.stderr);
    Err(format!("`{name} {}` failed ({}): {}", arguments.join(" "), done.status, errors.trim()))
}
