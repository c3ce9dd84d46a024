//! The scenarios of shell history for every common bash: Debian's of several releases, one with
//! musl, dynamic and static, one with the system's readline, and builds of any given source.
//!
//! Each bash has a root of its own in a folder of the cache (`shells/NAME`, with `bin/bash` and its
//! files), and runs in it inside a guest. Further roots there, made by hand, are tested as well.

mod source;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Choice, Scenario, all};
use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::flavor::{Architecture, Flavor};
use crate::packages::{self, Packages};

/// A file of a root: its package, its path in that, and its path in the root.
type Source = (&'static str, &'static str, &'static str);

/// The roots: their names, suites and files.
const BUILDS: &[(&str, &str, &[Source])] = &[
    ("debian-5.1", "bullseye", DYNAMIC),
    ("debian-5.1-static", "bullseye", STATIC),
    ("debian-5.2.15", "bookworm", DYNAMIC),
    ("debian-5.2.15-static", "bookworm", STATIC),
    ("debian-5.2.37", "trixie", DYNAMIC),
    ("debian-5.2.37-static", "trixie", STATIC),
    ("debian-5.3", "sid", DYNAMIC),
    ("debian-5.3-static", "sid", STATIC),
];

const DYNAMIC: &[Source] = &[
    ("bash", "bin/bash", "bin/bash"),
    ("libtinfo6", "lib/x86_64-linux-gnu/libtinfo.so.6", "lib/libtinfo.so.6"),
    ("libc6", "lib/x86_64-linux-gnu/libc.so.6", "lib/libc.so.6"),
    ("libc6", "lib/x86_64-linux-gnu/libdl.so.2", "lib/libdl.so.2"),
    ("libc6", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
];

const STATIC: &[Source] = &[("bash-static", "bin/bash-static", "bin/bash")];

/// Scenarios about other shells, or about programs that are not in such a root.
const LEFT_OUT: &[&str] = &["H12", "H15", "H19", "H19b", "H19c", "H20", "H20b", "H20c", "H20d"];

/// Enters a root before each row. `ROOT` is replaced.
const ENTER: &str = include_str!("../../../scenarios/lib/enter_root.sh");

/// The scenarios whose id begins with one of `names`, for the builds whose name does; all if none
/// is named. `sources` are folders with bash's source, to be built and tested, too.
pub fn choice(flavor: Flavor, names: &[String], sources: &[PathBuf]) -> Result<Choice> {
    let (roots, archive) = roots(sources)?;
    let is_history = |row: &&Scenario| row.id.starts_with('H') && !LEFT_OUT.contains(&row.id);
    let rows = all()?.iter().filter(is_history);
    let begins = |word: &str, name: &String| word.starts_with(name.as_str());
    let (of_rows, of_roots): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| rows.clone().any(|row| begins(row.id, name)));
    let is_wanted = |word: &str, names: &[&String]| {
        names.is_empty() || names.iter().any(|name| begins(word, name))
    };
    let mut choice = Choice::new(flavor, &[])?;
    choice.quiet = Duration::from_millis(300);
    choice.scenarios.clear();
    for root in roots.iter().filter(|root| is_wanted(root, &of_roots)) {
        let rows = rows.clone().filter(|row| is_wanted(row.id, &of_rows));
        choice.scenarios.extend(rows.map(|row| within(row, root)));
    }
    if choice.scenarios.is_empty() {
        return Err(Error::new(format!("none of {} begins so", roots.join(", "))));
    }
    choice.files.push(("opt/shells.tar".to_owned(), archive));
    Ok(choice)
}

/// A scenario adapted to the bash of one root; it lives as long as this program.
fn within(row: &Scenario, root: &str) -> &'static Scenario {
    let text = |text: String| -> &'static str { text.leak() };
    // The root has no other program.
    let act = row.act.replace("setpriv --reuid 1000 --regid 1000 --clear-groups bash", "bash -i");
    Box::leak(Box::new(Scenario {
        id: text(format!("{} {root}", row.id)),
        prepare: text(format!("{}{}", ENTER.replace("ROOT", root), row.prepare)),
        act: text(act),
        ..*row
    }))
}

/// Creates the missing roots; returns the names of all, and an archive of them.
fn roots(sources: &[PathBuf]) -> Result<(Vec<String>, PathBuf)> {
    let folder = cache::folder("shells")?;
    let mut packages = None;
    for (name, suite, files) in BUILDS {
        let root = folder.join(name);
        if !root.exists() {
            let packages = match &mut packages {
                Some(packages) => packages,
                none => none.insert(Packages::open(Architecture::Amd64)?),
            };
            fill(packages, suite, files, &root)?;
        }
    }
    source::of_debian(&folder)?;
    for source in sources {
        source::from_source(source, &folder)?;
    }
    let mut names = Vec::new();
    for root in cache::list(&folder)?.iter().filter(|root| root.join("bin/bash").is_file()) {
        names.extend(root.file_name().and_then(|name| name.to_str()).map(str::to_owned));
    }
    let archive = folder.join("all.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&folder).arg("-cf").arg(&archive).args(&names);
    command::output(&mut tar)?;
    Ok((names, archive))
}

fn fill(packages: &Packages, suite: &str, files: &[(&str, &str, &str)], root: &Path) -> Result<()> {
    let scratch = source::scratch("unpack")?;
    let made = scratch.join("root");
    for (package, path, name) in files {
        let unpacked = scratch.join(package);
        if !unpacked.exists() {
            packages::unpack(&packages.download(&format!("{package}/{suite}"))?, &unpacked)?;
        }
        // Newer packages have all files below /usr.
        let found = [unpacked.join(path), unpacked.join("usr").join(path)];
        let found = found.iter().find(|path| path.is_file());
        let found = found.ok_or_else(|| Error::new(format!("{package}/{suite} has no {path}")))?;
        cache::copy(found, &made.join(name))?;
    }
    cache::rename(&made, root)
}
