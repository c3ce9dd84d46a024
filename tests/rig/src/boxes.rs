//! Programs of a Debian release that run with its C library, so on any machine. They are unpacked
//! into the cache with all that they need, never installed.
//!
//! `tools` has programs of the machine's own release or an older one, which use the machine's C
//! library.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{self, Scratch};
use crate::command;
use crate::error::{Error, Result};
use crate::flavor::Architecture;
use crate::packages::{self, Packages};

/// Programs of a few packages.
#[derive(Debug)]
pub struct Programs {
    /// Their folder in the cache.
    name: &'static str,
    suite: &'static str,
    packages: &'static [&'static str],
    /// Their paths below the root.
    paths: &'static [&'static str],
    /// Size of the download.
    megabytes: u32,
}

/// Argus 3 and its clients: Debian 13 has argus 5. Its package would start a daemon.
pub const ARGUS_3: Programs = Programs {
    name: "argus-3",
    suite: "bookworm",
    packages: &["argus-server", "argus-client"],
    paths: &[
        "usr/bin/ra",
        "usr/bin/rabins",
        "usr/bin/racluster",
        "usr/bin/racount",
        "usr/bin/radump",
        "usr/bin/rahisto",
        "usr/bin/ralabel",
        "usr/bin/ranonymize",
        "usr/bin/rarpwatch",
        "usr/bin/raservices",
        "usr/bin/rasort",
        "usr/bin/rasqlinsert",
        "usr/bin/rastrip",
        "usr/bin/ratemplate",
        "usr/bin/ratimerange",
        "usr/bin/ratop",
        "usr/bin/rauserdata",
        "usr/sbin/argus",
        "usr/sbin/radium",
    ],
    megabytes: 20,
};

/// Argus 5 and its clients.
pub const ARGUS_5: Programs = Programs {
    name: "argus-5",
    suite: "trixie",
    packages: &["argus-server", "argus-client"],
    paths: &["usr/sbin/argus", "usr/bin/ra", "usr/bin/racluster", "usr/bin/rasort"],
    megabytes: 35,
};

/// Clients and servers whose traffic tests audit.
pub const NETWORK_TOOLS: Programs = Programs {
    name: "network-tools",
    suite: "bookworm",
    packages: &[
        "bind9-dnsutils",
        "busybox",
        "curl",
        "dnsmasq-base",
        "dropbear-bin",
        "iperf3",
        "iputils-ping",
        "netcat-openbsd",
        "nmap",
        "openssh-client",
    ],
    paths: &[
        "bin/busybox",
        "bin/nc.openbsd",
        "bin/ping",
        "usr/bin/curl",
        "usr/bin/dig",
        "usr/bin/dropbearkey",
        "usr/bin/iperf3",
        "usr/bin/nmap",
        "usr/bin/scp",
        "usr/bin/ssh",
        "usr/bin/ssh-keygen",
        "usr/sbin/dnsmasq",
        "usr/sbin/dropbear",
    ],
    megabytes: 51,
};

/// MariaDB, and its client.
pub const MARIADB: Programs = Programs {
    name: "mariadb",
    suite: "bookworm",
    packages: &["mariadb-client-core", "mariadb-server-core"],
    paths: &["usr/bin/mariadb", "usr/sbin/mariadbd"],
    megabytes: 16,
};

/// A flow sensor, for comparison.
pub const SURICATA: Programs = Programs {
    name: "suricata",
    suite: "trixie-backports",
    packages: &["suricata"],
    paths: &["usr/bin/suricata"],
    megabytes: 60,
};

/// The collector of NetFlow, whose `nfpcapd` reads captures.
pub const NFDUMP: Programs = Programs {
    name: "nfdump",
    suite: "sid",
    packages: &["nfdump"],
    paths: &["usr/bin/nfpcapd"],
    megabytes: 20,
};

/// What tests use.
pub(crate) const FOR_TESTS: &[&Programs] = &[&ARGUS_3, &ARGUS_5, &NETWORK_TOOLS];
/// Those whose programs tests search by their names.
pub const ON_PATH: &[&Programs] = &[&ARGUS_3, &NETWORK_TOOLS];

/// The variable with the path of `ra` 5. Beside it are `argus`, `racluster` and `rasort`.
pub const RA_5_VARIABLE: &str = "PANOPTES_RA_5";

/// Where libraries are. That of Debian's alternatives for BLAS has a folder of its own.
const LIBRARIES: [&str; 3] =
    ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/blas"];
const LOADER: &str = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

impl Programs {
    /// The folder with a script for each program, which runs it. They are fetched unless the cache
    /// has them. One call at a time may do this.
    pub fn obtain(&self) -> Result<PathBuf> {
        if let Some(folder) = self.in_cache()? {
            return Ok(folder);
        }
        eprintln!(
            "rig: fetching {} from {} ({} MB, kept in the cache, not installed)",
            self.packages.join(", "),
            self.suite,
            self.megabytes
        );
        let all = cache::folder("programs")?;
        let folder = all.join(self.name);
        let scratch = Scratch::new(all.join(format!(".{}", self.name)))?;
        let fetched = Packages::open(Architecture::Amd64)?;
        for file in fetched.closure(self.suite, self.packages, &scratch.join("packages"))? {
            packages::unpack(&file, &scratch.join("root"))?;
        }
        cache::remove(&folder)?;
        cache::create(&folder)?;
        cache::rename(&scratch.join("root"), &folder.join("root"))?;
        for program in self.paths {
            write_script(&folder, program)?;
        }
        cache::write(&folder.join("made-of"), self.text().as_bytes())?;
        Ok(folder.join("bin"))
    }

    /// The same, if the cache has them.
    pub fn in_cache(&self) -> Result<Option<PathBuf>> {
        let folder = cache::root()?.join("programs").join(self.name);
        let made_of = std::fs::read_to_string(folder.join("made-of"));
        Ok(made_of.is_ok_and(|old| old == self.text()).then(|| folder.join("bin")))
    }

    fn text(&self) -> String {
        format!("{self:?}\n")
    }
}

/// The folder of argus 5: that of the variable, or that in the cache; `None` if there is none.
pub fn argus_5() -> Result<Option<PathBuf>> {
    match std::env::var_os(RA_5_VARIABLE) {
        Some(path) => match Path::new(&path).parent() {
            Some(folder) if Path::new(&path).is_file() => Ok(Some(folder.to_owned())),
            _ => Err(Error::new(format!("{RA_5_VARIABLE} names no file: {}", path.display()))),
        },
        None => ARGUS_5.in_cache(),
    }
}

/// Writes a script that runs a program with the loader and the libraries of its release.
fn write_script(folder: &Path, program: &str) -> Result<()> {
    let root = folder.join("root");
    let name = program.rsplit('/').next().unwrap_or(program);
    let loader = [root.join("usr").join(LOADER), root.join(LOADER)];
    let loader = loader.iter().find(|path| path.exists());
    let loader = loader.ok_or_else(|| Error::new(format!("{name} has no loader")))?;
    let libraries = LIBRARIES.map(|folder| root.join(folder).display().to_string()).join(":");
    let script = folder.join("bin").join(name);
    // Programs find files beside them, and themselves, by the name that they are called by.
    let text = format!(
        "#!/bin/sh\nexec '{}' --inhibit-cache --library-path '{libraries}' --argv0 \"$0\" '{}' \
         \"$@\"\n",
        loader.display(),
        root.join(program).display()
    );
    cache::create(&folder.join("bin"))?;
    cache::write(&script, text.as_bytes())?;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&script, mode)
        .map_err(|e| Error::io("set the mode of", &script, &e))?;
    // It fails here if a library is missing.
    let mut list = Command::new(loader);
    list.args(["--inhibit-cache", "--library-path", &libraries, "--list"]);
    let list = command::output(list.arg(root.join(program)))?;
    match list.lines().find(|line| line.contains("not found")) {
        None => Ok(()),
        Some(line) => Err(Error::new(format!("{name}: {}", line.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use panoptes_needs::{Need, Without};

    use super::*;

    #[test]
    fn each_program_has_a_row_with_its_package() {
        for programs in ON_PATH {
            for path in programs.paths {
                let name = path.rsplit('/').next().expect("a name");
                let without = Need::named(name).without;
                let is_own = |package| without == Without::Unpack(package);
                assert!(programs.packages.iter().any(|one| is_own(one)), "{name}: {without:?}");
            }
        }
    }
}
