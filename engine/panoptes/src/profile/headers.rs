//! `panoptes profile build --headers DIR`: a profile of a kernel's headers and configuration.
//!
//! A C compiler of this machine lays the structures out. Nothing of what it makes runs.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use panoptes_profiles::ProfileFile;
use panoptes_profiles::import::headers::{self, KernelConfig};

use super::source::import_failure;
use crate::config::printable;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// The compiler, unless the environment names another one.
const COMPILER: &str = "cc";

/// The environment variable with the compiler's name, as for make.
const COMPILER_VARIABLE: &str = "CC";

/// Maximum length of the compiler's line that a message quotes.
const LINE_CHARACTERS_MAX: usize = 200;

/// A configuration as the kernel's build writes it for the compiler.
const CONFIGURATION: &str = "include/generated/autoconf.h";
const RELEASE: &str = "include/generated/utsrelease.h";

/// Makes a profile of the headers in `folder`; `map` is a `System.map` of the same build.
pub(super) fn profile(
    folder: &Path,
    map: Option<&Path>,
    messages: &Messages,
) -> Result<ProfileFile, Failure> {
    let folders = Folders::of(folder)?;
    let configuration = KernelConfig::parse(&folders.read(CONFIGURATION)?)
        .map_err(|error| unfit(folder, &error))?;
    let header = folders.read(RELEASE)?;
    let release = headers::release(&header)
        .ok_or_else(|| unfit(folder, &format_args!("{RELEASE} has no release")))?;
    let symbols = map.map(symbols).transpose()?;
    messages.info(format_args!("compiling against the headers of Linux {}", printable(release)));
    let program = compile(&folders, configuration)?;
    headers::profile(&program, release.to_owned(), symbols)
        .map_err(|error| import_failure(folder, &error))
}

/// Reads a `System.map`.
fn symbols(path: &Path) -> Result<panoptes_profiles::Symbols, Failure> {
    let file = File::open(path).map_err(|error| {
        Failure::io(&error, Exit::Source, format_args!("cannot open {}", path.display()))
    })?;
    headers::symbols(file).map_err(|error| import_failure(path, &error))
}

fn unfit(folder: &Path, why: &dyn Display) -> Failure {
    Failure::new(Exit::NoKernel, format!("{}: {why}", folder.display()))
}

/// The folders of a kernel's headers.
#[derive(Debug, Eq, PartialEq)]
struct Folders {
    /// What the kernel's build made: its configuration, and generated headers.
    build: PathBuf,
    /// The headers themselves.
    source: PathBuf,
}

impl Folders {
    /// Finds the folders. A build outside of its sources, and Debian's package of one flavour, have
    /// a Makefile that includes the one in the other folder.
    fn of(folder: &Path) -> Result<Self, Failure> {
        let build = folder.to_owned();
        if !build.is_dir() {
            let why = "it is no folder; give the headers of a kernel, such as \
                       /usr/src/linux-headers-VERSION or /lib/modules/VERSION/build";
            return Err(Failure::new(Exit::Source, format!("{}: {why}", folder.display())));
        }
        let is_source = |folder: &Path| folder.join("include/linux/sched.h").is_file();
        if is_source(&build) {
            return Ok(Self { source: build.clone(), build });
        }
        let makefile = fs::read_to_string(build.join("Makefile")).unwrap_or_default();
        let included = makefile
            .lines()
            .find_map(|line| line.strip_prefix("include ")?.strip_suffix("/Makefile"));
        let mut candidates = Vec::new();
        if let Some(included) = included.map(Path::new) {
            candidates.push(build.join(included));
            // Packages that are unpacked elsewhere lie side by side.
            candidates.extend(
                build.parent().zip(included.file_name()).map(|(parent, name)| parent.join(name)),
            );
        }
        candidates.push(build.join("source"));
        let source = candidates.into_iter().find(|candidate| is_source(candidate));
        let source = source.ok_or_else(|| {
            let other = included.unwrap_or("include/linux/sched.h");
            let why = format!("its headers are missing: {} is not there", printable(other));
            unfit(folder, &why)
        })?;
        Ok(Self { build, source })
    }

    /// Reads a header that the kernel's build makes.
    fn read(&self, name: &str) -> Result<String, Failure> {
        let path = self.build.join(name);
        fs::read_to_string(&path).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                let why = format!(
                    "{name} is missing; run `make modules_prepare` in a tree of sources, or give \
                     the headers of one kernel"
                );
                return unfit(&self.build, &why);
            }
            Failure::io(&error, Exit::Source, format_args!("cannot read {}", path.display()))
        })
    }
}

/// Compiles the probe; returns the program.
fn compile(folders: &Folders, configuration: KernelConfig) -> Result<Vec<u8>, Failure> {
    let compiler = Compiler::of(&std::env::var_os(COMPILER_VARIABLE).unwrap_or_default());
    let scratch = tempfile::tempdir().map_err(|error| {
        let folder = std::env::temp_dir();
        Failure::new(Exit::Output, format!("cannot write into {}: {error}", folder.display()))
    })?;
    let program = scratch.path().join("probe");
    // Before v5.15, the kernel includes the compiler's own stdarg.h.
    let own = run(&compiler, &["-print-file-name=include".into()], scratch.path(), b"")?;
    let own = String::from_utf8_lossy(&own).trim().to_owned();
    let mut arguments: Vec<OsString> = vec!["-nostdinc".into(), "-isystem".into(), own.into()];
    let absolute = |folder: &Path| folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let (build, source) = (absolute(&folders.build), absolute(&folders.source));
    let options = headers::options(configuration, &build, &source, Path::exists);
    arguments.extend(options.into_iter().map(PathBuf::into_os_string));
    arguments.extend([headers::LINK.into(), "-o".into(), program.clone().into()]);
    arguments.extend(["-x".into(), "c".into(), "-".into()]);
    run(&compiler, &arguments, scratch.path(), headers::PROBE.as_bytes())?;
    fs::read(&program).map_err(|error| {
        Failure::io(&error, Exit::Failed, format_args!("cannot read {}", program.display()))
    })
}

/// A compiler's program, and the first of its arguments.
#[derive(Debug, Eq, PartialEq)]
struct Compiler {
    program: OsString,
    arguments: Vec<OsString>,
}

impl Compiler {
    /// The compiler that the variable names: words between blanks, such as `ccache gcc`.
    fn of(variable: &OsStr) -> Self {
        let words = variable.as_bytes().split(u8::is_ascii_whitespace);
        let words = words.filter(|word| !word.is_empty()).map(OsStr::from_bytes);
        let mut words = words.map(OsStr::to_owned);
        let program = words.next().unwrap_or_else(|| COMPILER.into());
        Self { program, arguments: words.collect() }
    }
}

/// Runs the compiler on a source in `folder`; returns what it prints.
fn run(
    compiler: &Compiler,
    arguments: &[OsString],
    folder: &Path,
    source: &[u8],
) -> Result<Vec<u8>, Failure> {
    let name = printable(&compiler.program.to_string_lossy());
    let failed = |error: io::Error| {
        let message = if error.kind() == ErrorKind::NotFound {
            format!(
                "no C compiler: {name} is not there; install gcc, or name one in the environment \
                 variable {COMPILER_VARIABLE}"
            )
        } else {
            format!("cannot run the C compiler {name}: {error}")
        };
        Failure::new(Exit::Failed, message)
    };
    let mut child = Command::new(&compiler.program)
        .args(&compiler.arguments)
        .args(arguments)
        .current_dir(folder)
        // Messages are in English then.
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A compiler that refuses its options reads nothing; its message says more.
        let _ = input.write_all(source);
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = first_error(&text);
    let message = format!("the headers cannot be compiled by {name}: {line}");
    Err(Failure::new(Exit::NoKernel, message))
}

/// The first error in a compiler's output.
fn first_error(text: &str) -> String {
    let line = text.lines().find(|line| line.contains("error:")).or_else(|| text.lines().last());
    let line: String = line.unwrap_or("no message").chars().take(LINE_CHARACTERS_MAX).collect();
    printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// As Debian's packages, unpacked in another place than `/usr/src`.
    #[test]
    fn the_folder_of_a_flavour_leads_to_the_common_headers() {
        let root = tempfile::tempdir().unwrap();
        let (build, common) = (root.path().join("headers-1-amd64"), root.path().join("common-1"));
        write(&build.join("Makefile"), "include /usr/src/nowhere/common-1/Makefile\n");
        let error = Folders::of(&build).unwrap_err();
        assert_eq!(error.exit, Exit::NoKernel);
        assert!(error.message.contains("/usr/src/nowhere/common-1 is not there"), "{error}");
        write(&common.join("include/linux/sched.h"), "");
        let folders = Folders::of(&build).unwrap();
        assert_eq!(folders, Folders { build: build.clone(), source: common.clone() });
        // A path from the folder, as in a build outside of its sources.
        write(&build.join("Makefile"), "# made\ninclude ../common-1/Makefile\n");
        assert_eq!(Folders::of(&build).unwrap().source, build.join("../common-1"));
    }

    #[test]
    fn a_tree_of_sources_is_both_folders() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("include/linux/sched.h"), "");
        let folders = Folders::of(root.path()).unwrap();
        assert_eq!(folders.build, folders.source);
        let error = folders.read(CONFIGURATION).unwrap_err();
        assert!(error.message.contains("make modules_prepare"), "{error}");
    }

    #[test]
    fn what_is_no_folder_of_headers_is_one_clear_line() {
        let root = tempfile::tempdir().unwrap();
        let error = Folders::of(&root.path().join("absent")).unwrap_err();
        assert_eq!(error.exit, Exit::Source);
        assert!(error.message.contains("/lib/modules/VERSION/build"), "{error}");
        let error = Folders::of(root.path()).unwrap_err();
        assert!(error.message.contains("its headers are missing"), "{error}");
    }

    #[test]
    fn a_missing_compiler_is_one_clear_line() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            run(&Compiler::of(OsStr::new("no-such-cc")), &[], folder.path(), b"").unwrap_err();
        assert_eq!(error.exit, Exit::Failed);
        let expected = "no C compiler: no-such-cc is not there; install gcc, or name one in the \
                        environment variable CC";
        assert_eq!(error.message, expected);
    }

    #[test]
    fn the_compiler_may_have_arguments() {
        let of = |text: &str| Compiler::of(OsStr::new(text));
        let compiler = of("  ccache  gcc-12 -m64 ");
        assert_eq!(compiler.program, "ccache");
        assert_eq!(compiler.arguments, ["gcc-12", "-m64"]);
        assert_eq!(of(" "), Compiler { program: "cc".into(), arguments: Vec::new() });
        assert_eq!(of(""), of("cc"));
    }

    #[test]
    fn the_first_error_of_a_compiler_is_quoted() {
        let text = "In file included from a.h:1:\nb.h:2:1: error: no such thing\nc.h:3: error: x\n";
        assert_eq!(first_error(text), "b.h:2:1: error: no such thing");
        assert_eq!(first_error("collect2: ld returned 1\n"), "collect2: ld returned 1");
        assert_eq!(first_error(""), "no message");
        assert_eq!(first_error(&format!("error: {}", "x".repeat(500))).len(), 200);
    }

    /// The real compiler, and headers of nothing: the first required field is missing.
    #[test]
    fn headers_without_a_structure_are_refused_by_its_name() {
        if !panoptes_needs::skip::has("cc") {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let linux = root.path().join("include/linux");
        for line in headers::PROBE.lines() {
            let Some(name) = line.strip_prefix("#include <") else { continue };
            write(&root.path().join("include").join(name.trim_end_matches('>')), "");
        }
        for name in ["kconfig.h", "compiler_types.h"] {
            write(&linux.join(name), "");
        }
        write(
            &linux.join("version.h"),
            "#define LINUX_VERSION_CODE 0x60100\n\
             #define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n",
        );
        write(
            &linux.join("types.h"),
            "struct list_head { struct list_head *next, *prev; };\n\
             struct hlist_node { struct hlist_node *next, **before; };\n\
             struct callback_head { struct callback_head *next; void (*call)(void); };\n\
             struct vfsmount { struct dentry *mnt_root; };\n\
             struct ns_common { unsigned int inum; };\n\
             enum pageflags { PG_locked };\n",
        );
        write(
            &root.path().join(CONFIGURATION),
            "#define CONFIG_X86_64 1\n#define CONFIG_64BIT 1\n",
        );
        write(&root.path().join(RELEASE), "#define UTS_RELEASE \"6.1.0-none\"\n");
        let messages = Messages::new(Box::new(io::sink()), false, LogLevel::Error);
        let error = profile(root.path(), None, &messages).unwrap_err();
        assert_eq!(error.exit, Exit::NoKernel);
        assert!(error.message.contains("address_space"), "{error}");
    }
}
