//! `cargo xtask fresh`: whether both commands of README work on a new machine, the first time.
//!
//! The machine is a folder with a minimal Debian and what README requires, in namespaces of its
//! own. Its root is no mount, as in many containers. The present commit is cloned into it, and
//! everything else is fetched there. It shares this machine's kernel, network and Rust.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};
use nix::unistd::{Gid, Uid, chown};
use panoptes_needs::table::{NEEDS, digest};
use panoptes_needs::{User, install};
use panoptes_rig::{cache, output, packages, setup};

use crate::folders::ROOT;
use crate::silence::{self, End, SILENCE_MAX};
use crate::stages::Stages;

/// Runs the demo and the tests on a new, minimal Debian, from a clone of the present commit
///
/// Prints what was installed, the time of each part, and the outcome. Takes up to an hour, and
/// root.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[arg(default_value = "bookworm")]
    release: Release,
    /// As whom the commands run there
    #[arg(long = "as", value_name = "WHO", default_value = "root")]
    who: Who,
    /// Another command to run there, in place of the demo and the tests
    #[arg(last = true)]
    command: Vec<String>,
    /// Keep the machine of an earlier run: its packages, its cache, and its build
    #[arg(long)]
    again: bool,
}

/// A release of Debian.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Release {
    /// Debian 12
    Bookworm,
    /// Debian 13
    Trixie,
}

/// As whom commands run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Who {
    /// root, with every permission
    Root,
    /// root in a container: without CAP_SYS_ADMIN, and others that containers lack
    Contained,
    /// an ordinary user; root has installed the packages
    User,
    /// root by `nice -n 10`, with another umask, LANG=C, and TMPDIR on a tmpfs
    Odd,
}

/// What README requires beside Rust: a C linker and git; and certificates, to fetch crates.
const REQUIRED: &str = "gcc,libc6-dev,git,ca-certificates";
const SCRIPT: &str = include_str!("fresh/machine.sh");
/// Where the clone is below the machine's root.
const CLONE: &str = "srv/panoptes";
/// Files that give this machine's network to the new one, and the folder of apt's settings, of
/// which those of the network are taken.
const NETWORK: [&str; 2] = ["etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"];
const APT_SETTINGS: &str = "etc/apt/apt.conf.d";
/// The ordinary user's id and home.
const USER: u32 = 1000;
const HOME: &str = "home/user";
/// A command prints nothing for so long if it hangs: the tests there end themselves sooner.
const SILENCE: std::time::Duration = SILENCE_MAX.saturating_mul(2);

pub(crate) fn run(options: &Options) -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can make a new machine; run it again as root".to_owned());
    }
    setup::ensure_for_roots()?;
    let mut stages = Stages::default();
    let fresh = Fresh::new(options)?;
    stages.run(&format!("making {}", fresh.root.display()), || fresh.make(options.again))?;
    let before = fresh.packages()?;
    let (mut failed, mut last) = (Vec::new(), String::new());
    for command in commands(&options.command) {
        let name = command.join(" ");
        let done = stages.run(&name, || fresh.run(fresh.who, &command))?;
        if !done.succeeded {
            failed.push(name);
        }
        last = done.last;
    }
    let installed: Vec<_> = fresh.packages()?.difference(&before).cloned().collect();
    println!("== installed: {} packages: {}", installed.len(), installed.join(" "));
    println!("== times\n{}", stages.table().trim_end());
    let (suite, who) = (fresh.suite, fresh.who.name());
    println!("== {suite} as {who}, commit {:.12}, table {}: {last}", fresh.commit, digest());
    if failed.is_empty() { Ok(()) } else { Err(format!("failed there: {}", failed.join(", "))) }
}

/// The given command, else those of README.
fn commands(given: &[String]) -> Vec<Vec<String>> {
    if !given.is_empty() {
        return vec![given.to_vec()];
    }
    let words = |name: &str| ["cargo", "xtask", name].map(str::to_owned).to_vec();
    vec![words("demo"), words("test")]
}

impl Who {
    /// The name for the script, and for people.
    const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Contained => "contained",
            Self::User => "user",
            Self::Odd => "odd",
        }
    }
}

/// A new machine.
struct Fresh {
    suite: &'static str,
    who: Who,
    root: PathBuf,
    /// The whole id of the present commit.
    commit: String,
}

/// What a command there has done.
struct Done {
    succeeded: bool,
    /// Its last line.
    last: String,
}

impl Fresh {
    fn new(options: &Options) -> Result<Self, String> {
        let suite = match options.release {
            Release::Bookworm => "bookworm",
            Release::Trixie => "trixie",
        };
        let all = Path::new(ROOT).join("target/fresh");
        cache::create(&all)?;
        let all = all.canonicalize().map_err(|e| format!("{}: {e}", all.display()))?;
        let commit = git(&["rev-parse", "HEAD"])?;
        if !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
            eprintln!("fresh: uncommitted changes are not tried, only commit {commit:.12}");
        }
        let root = all.join(format!("{suite}-{}", options.who.name()));
        Ok(Self { suite, who: options.who, root, commit })
    }

    /// Makes the machine, unless it is there and may be used again, and the clone.
    fn make(&self, again: bool) -> Result<(), String> {
        if !again || !self.root.join("etc").exists() {
            cache::remove(&self.root)?;
            self.debian()?;
            self.network()?;
            self.rust()?;
            self.user()?;
        }
        let clone = self.root.join(CLONE);
        if !clone.exists() {
            let mut git = Command::new("git");
            git.args(["clone", "--quiet", "--no-hardlinks", "--no-checkout", ROOT]).arg(&clone);
            output(&mut git)?;
        }
        // The user's clone is not root's.
        let git = |words: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "safe.directory=*", "-C"]).arg(&clone).args(words);
            output(&mut git)
        };
        git(&["fetch", "--quiet", ROOT, &self.commit])?;
        git(&["checkout", "--quiet", "--detach", &self.commit])?;
        if self.who == Who::User {
            give(&clone)?;
        }
        Ok(())
    }

    /// A minimal Debian, with what README requires.
    fn debian(&self) -> Result<(), String> {
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--mode=root", "--format=directory", "--variant=minbase"]);
        make.arg(format!("--include={REQUIRED}")).arg(self.suite).arg(&self.root);
        output(make.arg(packages::line_of(self.suite)?))?;
        // mmdebstrap leaves what it had of this machine.
        let _ = fs::remove_file(self.root.join("etc/hosts"));
        Ok(())
    }

    fn network(&self) -> Result<(), String> {
        for name in NETWORK {
            let target = self.root.join(name);
            let _ = fs::remove_file(&target);
            cache::copy(&Path::new("/").join(name), &target)?;
        }
        for path in cache::list(&Path::new("/").join(APT_SETTINGS))? {
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.contains("Acquire::") && text.lines().count() < 10 {
                let name = path.file_name().unwrap_or_default();
                cache::copy(&path, &self.root.join(APT_SETTINGS).join(name))?;
            }
        }
        Ok(())
    }

    /// The programs of rustup. The toolchain itself is mounted.
    fn rust(&self) -> Result<(), String> {
        let home = if self.who == Who::User { HOME } else { "root" };
        let folder = self.root.join(home).join(".cargo/bin");
        cache::create(folder.parent().unwrap_or(&folder))?;
        let mut copy = Command::new("cp");
        output(copy.arg("-a").arg(home_of("CARGO_HOME", ".cargo")?.join("bin")).arg(&folder))?;
        Ok(())
    }

    /// The ordinary user. root has installed what the table has: the user cannot.
    fn user(&self) -> Result<(), String> {
        if self.who != Who::User {
            return Ok(());
        }
        let line = format!("user:x:{USER}:{USER}::/{HOME}:/bin/sh\n");
        append(&self.root.join("etc/passwd"), &line)?;
        append(&self.root.join("etc/group"), &format!("user:x:{USER}:\n"))?;
        give(&self.root.join(HOME))?;
        let users = [User::Build, User::Guests, User::Test, User::Fuzz];
        let needs: Vec<_> = NEEDS.iter().filter(|need| users.contains(&need.user)).collect();
        cache::create(&self.root.join(CLONE))?;
        let words = ["apt-get", "install", "--yes", "--no-install-recommends"];
        let mut install = words.map(str::to_owned).to_vec();
        install.extend(install::packages(&needs).iter().map(|name| (*name).to_owned()));
        let update = ["apt-get", "update"].map(str::to_owned);
        let done =
            self.run(Who::Root, &update)?.succeeded && self.run(Who::Root, &install)?.succeeded;
        fs::remove_dir(self.root.join(CLONE)).map_err(|e| e.to_string())?;
        done.then_some(()).ok_or_else(|| "root could not install packages".to_owned())
    }

    /// Runs a command there. What it prints is shown, and kept in a file beside the machine.
    fn run(&self, who: Who, command: &[String]) -> Result<Done, String> {
        let mut inside = panoptes_rig::tied("unshare");
        inside.args(["--mount", "--pid", "--fork", "--kill-child", "--propagation=private"]);
        inside.args(["sh", "-c", SCRIPT, "sh"]).arg(&self.root).arg(who.name());
        inside.arg(home_of("RUSTUP_HOME", ".rustup")?).args(command);
        let log = self.root.with_extension(format!("{}.log", command.join("-").replace('/', "")));
        let mut file = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut last = String::new();
        let end = silence::run(inside, SILENCE, |line| {
            println!("{line}");
            let _ = writeln!(file, "{line}");
            line.clone_into(&mut last);
        });
        let end = end.map_err(|e| format!("cannot run unshare: {e}"))?;
        println!("(all of it is in {})", log.display());
        Ok(Done { succeeded: matches!(end, End::Status(status) if status.success()), last })
    }

    /// The names of the packages that are installed there.
    fn packages(&self) -> Result<BTreeSet<String>, String> {
        let mut query = Command::new("dpkg-query");
        query.arg(format!("--admindir={}", self.root.join("var/lib/dpkg").display()));
        Ok(output(query.args(["-W", "-f", "${Package}\n"]))?.lines().map(str::to_owned).collect())
    }
}

/// Runs git in this tree.
fn git(words: &[&str]) -> Result<String, String> {
    Ok(output(Command::new("git").current_dir(ROOT).args(words))?.trim().to_owned())
}

/// A folder of this user's Rust.
fn home_of(variable: &str, name: &str) -> Result<PathBuf, String> {
    let given = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(name));
    given.or_else(home).ok_or_else(|| "HOME is not set".to_owned())
}

fn append(path: &Path, text: &str) -> Result<(), String> {
    let file = File::options().append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// Gives a tree to the ordinary user.
fn give(path: &Path) -> Result<(), String> {
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    let is_link = path.symlink_metadata().is_ok_and(|facts| facts.is_symlink());
    if !is_link {
        chown(path, Some(user), Some(group)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if !is_link && path.is_dir() {
        for entry in cache::list(path)? {
            give(&entry)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_commands_of_the_readme_run() {
        let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).expect("it exists");
        let (_, part) = readme.split_once("## Try it").expect("the part");
        let part = part.split("\n## ").next().expect("a part");
        for command in commands(&[]) {
            assert!(part.contains(&format!("\n    {} ", command.join(" "))), "{command:?}");
        }
        assert_eq!(commands(&["true".to_owned()]), [["true"]]);
    }
}
