//! Which programs take commands, and from where.
//!
//! A shell reads commands from its standard input unless its command line has a script or a
//! command. The interpreter of a programming language reads commands only then; with a program it
//! is like any other process.
//!
//! Programs are recognised by common names, and others by the content of their file.

use crate::page_cache::Traits;

/// A program that takes commands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Interpreter {
    pub kind: InterpreterKind,
    pub commands: Commands,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InterpreterKind {
    Shell,
    /// The interpreter of a programming language.
    Language,
}

/// Where an interpreter's commands come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Commands {
    Input {
        /// Whether it has the option to be interactive (`-i`).
        interactive: bool,
    },
    /// Its input, each line of which is a command for a shell that it runs (`xargs -I{} sh -c {}`).
    Lines,
    /// Its command line (`-c`, `-e`).
    Argument,
    Script,
    /// Unknown, because the command line could not be read.
    Unknown,
}

/// Names of shells. Renamed shells are recognised by their content.
const SHELLS: &[&[u8]] = &[
    b"sh",
    b"bash",
    b"dash",
    b"ash",
    b"hush",
    b"rbash",
    b"zsh",
    b"ksh",
    b"ksh93",
    b"rksh",
    b"mksh",
    b"lksh",
    b"oksh",
    b"loksh",
    b"pdksh",
    b"yash",
    b"posh",
    b"csh",
    b"tcsh",
    b"bsd-csh",
    b"fish",
    b"pwsh",
    b"rc",
    b"es",
    b"elvish",
    b"nu",
    b"sash",
    b"bash-static",
    b"zsh-static",
    b"ksh2020",
];
/// Names of multi-call binaries, which are the program that they are called as.
const BOXES: &[&[u8]] = &[b"busybox", b"toybox", b"busybox-static", b"busybox.static", b"toolbox"];
/// Interpreters of languages that read a program from their standard input. Digits and dots may
/// follow the name.
const LANGUAGES: &[&[u8]] = &[
    b"python", b"pypy", b"perl", b"ruby", b"irb", b"php", b"node", b"nodejs", b"lua", b"luajit",
    b"tclsh", b"guile", b"deno", b"bun", b"psysh", b"ipython",
];

const XARGS: &[u8] = b"xargs";
/// Folders that any user can write to.
const OPEN_FOLDERS: &[&[u8]] =
    &[b"/tmp/", b"/var/tmp/", b"/dev/shm/", b"/dev/fd/", b"/proc/", b"/run/user/"];

/// Recognises a program by the name of its file and by its command line.
pub fn recognise(file: &[u8], line: Option<&[u8]>, comm: &[u8]) -> Option<Interpreter> {
    if BOXES.contains(&file) {
        return of_box(line, comm);
    }
    if SHELLS.contains(&file) || is_versioned(file, SHELLS) {
        return Some(shell(line, 1));
    }
    if is_versioned(file, LANGUAGES) {
        return Some(Interpreter {
            kind: InterpreterKind::Language,
            commands: language(file, line).0,
        });
    }
    if file == XARGS { xargs(line?, 1) } else { None }
}

/// Whether an interpreter's program is nobody's file: it is on the command line, comes from the
/// input, or is a script in a folder that anyone can write to.
pub fn is_makeshift(interpreter: Interpreter, file: &[u8], line: Option<&[u8]>) -> bool {
    let Some(line) = line else { return false };
    match (interpreter.commands, interpreter.kind) {
        (Commands::Input { .. }, _) | (Commands::Argument, InterpreterKind::Shell) => true,
        (Commands::Argument, InterpreterKind::Language) => has_code(file, line),
        (Commands::Script, kind) => {
            let script = match kind {
                InterpreterKind::Shell => shell_commands(line, first_of(file, line)).1,
                InterpreterKind::Language => language(file, Some(line)).1,
            };
            script.is_some_and(|path| OPEN_FOLDERS.iter().any(|folder| path.starts_with(folder)))
        }
        (Commands::Lines | Commands::Unknown, _) => false,
    }
}

/// Recognises a program without a known name by the words in its file.
pub fn recognise_content(traits: Traits, line: Option<&[u8]>, comm: &[u8]) -> Option<Interpreter> {
    if traits.is_box() {
        return of_box(line, comm);
    }
    traits.is_shell().then(|| shell(line, 1))
}

/// Whether a name is one of `names`, possibly with a version behind it: `python3.11`, `lua5.4`,
/// `bash-5.2`.
fn is_versioned(name: &[u8], names: &[&[u8]]) -> bool {
    let end = name.iter().rposition(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'-'));
    let stem = end.map_or(&name[..0], |end| &name[..=end]);
    names.contains(&stem)
}

/// The last component of a path, without the dash of a login shell.
fn base_name(path: &[u8]) -> &[u8] {
    let start = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    let name = &path[start..];
    name.strip_prefix(b"-").unwrap_or(name)
}

/// The last component of the path to the script of a shell. `file` is the name of the shell's file.
pub fn script_name<'a>(file: &[u8], line: &'a [u8]) -> Option<&'a [u8]> {
    let path = shell_commands(line, first_of(file, line)).1?;
    path.rsplit(|&byte| byte == b'/').next()
}

/// The number of a shell's first argument: that of a multi-call binary comes after its name.
fn first_of(file: &[u8], line: &[u8]) -> usize {
    let is_box = arguments(line).next().is_some_and(|first| BOXES.contains(&base_name(first)));
    if is_box && BOXES.contains(&file) { 2 } else { 1 }
}

/// Options of the dynamic loader that a value follows (glibc 2.41, `elf/rtld.c`; musl 1.2.5,
/// `ldso/dynlink.c`).
const LOADER_OPTIONS: &[&[u8]] = &[
    b"--library-path",
    b"--inhibit-rpath",
    b"--preload",
    b"--audit",
    b"--argv0",
    b"--glibc-hwcaps-prepend",
    b"--glibc-hwcaps-mask",
];

/// The part of a command line that is the program's own, and the program's name, if the dynamic
/// loader was started with a program as an argument: `/lib64/ld-linux-x86-64.so.2 /bin/bash -i`.
/// `file` is the name of the process's file.
pub fn loaded<'a>(file: &[u8], line: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    const LOADERS: &[&[u8]] = &[b"ld-linux", b"ld-musl-", b"ld64.so.", b"ld.so.", b"ld-2."];
    if !LOADERS.iter().any(|start| file.starts_with(start)) {
        return None;
    }
    let mut start = 0;
    let mut is_value = true; // the first argument is the loader
    for argument in arguments(line) {
        if !is_value && !argument.starts_with(b"--") {
            return Some((base_name(argument), line.get(start..)?));
        }
        is_value = !is_value && LOADER_OPTIONS.contains(&argument);
        start += argument.len() + 1;
    }
    None
}

fn arguments(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.strip_suffix(b"\0").unwrap_or(line).split(|&byte| byte == 0)
}

fn of_box(line: Option<&[u8]>, comm: &[u8]) -> Option<Interpreter> {
    const APPLETS: &[&[u8]] = &[b"sh", b"ash", b"hush", b"bash"];
    let Some(line) = line else {
        // The kernel names a process after the name by which the program was started.
        let is_shell = APPLETS.contains(&comm);
        return is_shell
            .then_some(Interpreter { kind: InterpreterKind::Shell, commands: Commands::Unknown });
    };
    let mut all = arguments(line);
    let first = base_name(all.next().unwrap_or_default());
    if APPLETS.contains(&first) {
        return Some(shell(Some(line), 1));
    }
    if first == XARGS {
        return xargs(line, 1);
    }
    if BOXES.contains(&first) {
        let applet = base_name(all.next()?);
        if applet == XARGS {
            return xargs(line, 2);
        }
        return APPLETS.contains(&applet).then(|| shell(Some(line), 2));
    }
    // Called by another name (`exec -a`), it would not know which program to be.
    None
}

/// An `xargs` that runs each line of its input in a shell, as it is: `xargs -I{} sh -c {}`,
/// `xargs -n1 sh -c`. One that puts lines into a command of its own takes data.
fn xargs(line: &[u8], first: usize) -> Option<Interpreter> {
    let mut all = arguments(line).skip(first);
    let mut replaced: Option<&[u8]> = None;
    while let Some(argument) = all.next() {
        match argument {
            b"-I" => replaced = all.next(),
            b"-i" | b"--replace" => replaced = Some(b"{}"),
            [b'-', b'I' | b'i', rest @ ..] => replaced = Some(rest),
            _ if argument.starts_with(b"--replace=") => replaced = Some(&argument[10..]),
            [b'-', ..] => {}
            _ if SHELLS.contains(&base_name(argument)) => {
                let is_command = |it: &&[u8]| it.starts_with(b"-") && it.ends_with(b"c");
                all.find(is_command)?;
                let runs_lines = match (all.next(), replaced) {
                    (None, None) => true,
                    (Some(command), Some(replaced)) => command.trim_ascii().starts_with(replaced),
                    _ => false,
                };
                let interpreter =
                    Interpreter { kind: InterpreterKind::Shell, commands: Commands::Lines };
                return runs_lines.then_some(interpreter);
            }
            _ => {}
        }
    }
    None
}

/// A shell with these arguments, from `first` on.
fn shell(line: Option<&[u8]>, first: usize) -> Interpreter {
    let commands = line.map_or(Commands::Unknown, |line| shell_commands(line, first).0);
    Interpreter { kind: InterpreterKind::Shell, commands }
}

/// Where a shell's commands come from, and its script, if there is one.
fn shell_commands(line: &[u8], first: usize) -> (Commands, Option<&[u8]>) {
    let mut all = arguments(line).skip(first);
    let (mut interactive, mut from_input) = (false, false);
    let input = |interactive| (Commands::Input { interactive }, None);
    while let Some(argument) = all.next() {
        match argument {
            b"-" | b"--" => {
                return match all.next() {
                    Some(file) if !from_input && !is_input(file) => (Commands::Script, Some(file)),
                    _ => input(interactive),
                };
            }
            b"--rcfile" | b"--init-file" => {
                all.next();
            }
            _ if argument.starts_with(b"--") => {}
            [b'-' | b'+', letters @ ..] => {
                if argument[0] == b'-' {
                    if letters.contains(&b'c') {
                        return (Commands::Argument, None);
                    }
                    interactive |= letters.contains(&b'i');
                    from_input |= letters.contains(&b's');
                }
                if matches!(letters.last(), Some(b'o' | b'O')) {
                    all.next();
                }
            }
            // Arguments of what it reads from its input.
            _ if from_input => return input(interactive),
            file if is_input(file) => return input(interactive),
            file => return (Commands::Script, Some(file)),
        }
    }
    input(interactive)
}

/// Whether a path is another name of the standard input.
fn is_input(path: &[u8]) -> bool {
    matches!(path, b"/dev/stdin" | b"/dev/fd/0" | b"/proc/self/fd/0" | b"/dev/tty")
}

/// Options of language interpreters that are followed by the program.
fn has_program(name: &[u8], letters: &[u8]) -> bool {
    let wanted: &[u8] = match name {
        name if name.starts_with(b"py") || name.starts_with(b"ipython") => b"cm",
        name if name.starts_with(b"php") => b"rfBRFE",
        name if name.starts_with(b"node") => b"ep",
        _ => b"eE",
    };
    letters.iter().any(|letter| wanted.contains(letter))
}

/// Whether a command line is a title that the program has set itself: `node /app/x.js`, `Passenger
/// RubyApp: /app`, `worker`, as one argument. Then its arguments are unknown.
fn is_title(name: &[u8], line: &[u8]) -> bool {
    let mut all = arguments(line);
    let (Some(only), None) = (all.next(), all.next()) else { return false };
    let called = base_name(only);
    only.contains(&b' ')
        || only.contains(&b':')
        || called != name && !is_versioned(called, LANGUAGES)
}

/// Where the commands of a language's interpreter come from, and its script, if there is one.
fn language<'a>(name: &[u8], line: Option<&'a [u8]>) -> (Commands, Option<&'a [u8]>) {
    let Some(line) = line.filter(|line| !is_title(name, line)) else {
        return (Commands::Unknown, None);
    };
    let mut interactive = false;
    for argument in arguments(line).skip(1) {
        match argument {
            b"-" => break,
            b"--eval" | b"--print" | b"--run" | b"eval" => return (Commands::Argument, None),
            b"--interactive" => interactive = true,
            _ if argument.starts_with(b"--") => {}
            [b'-', letters @ ..] => {
                let goes_on_after = letters.contains(&b'i') || letters.contains(&b'a');
                if has_program(name, letters) {
                    interactive |= goes_on(name) && goes_on_after;
                    if interactive && goes_on(name) {
                        break;
                    }
                    return (Commands::Argument, None);
                }
                interactive |= goes_on_after;
            }
            file if is_input(file) => break,
            _ if interactive && goes_on(name) => break,
            file => return (Commands::Script, Some(file)),
        }
    }
    (Commands::Input { interactive }, None)
}

/// Whether the program of a language's interpreter is text on its command line, rather than the
/// name of a module or of a file there: `python3 -m celery`, `php -f x.php`.
fn has_code(name: &[u8], line: &[u8]) -> bool {
    let file_letters: &[u8] = match name {
        name if name.starts_with(b"py") || name.starts_with(b"ipython") => b"m",
        name if name.starts_with(b"php") => b"fF",
        _ => b"",
    };
    let program = arguments(line).skip(1).find_map(|argument| match argument {
        b"--run" => Some(true),
        _ if argument.starts_with(b"--") => None,
        [b'-', letters @ ..] if has_program(name, letters) => {
            Some(letters.iter().any(|letter| file_letters.contains(letter)))
        }
        _ => None,
    });
    program != Some(true)
}

/// Whether an interactive (`-i`) interpreter of a language continues with its input after the
/// program: those of Python and Lua do.
fn goes_on(name: &[u8]) -> bool {
    name.starts_with(b"py") || name.starts_with(b"lua")
}

/// Whether a process runs an awk program from its command line.
pub fn is_awk_one_liner(file: &[u8], line: Option<&[u8]>) -> bool {
    const AWKS: &[&[u8]] = &[b"awk", b"gawk", b"mawk", b"nawk", b"original-awk"];
    AWKS.contains(&file) && awk_has_code(line.unwrap_or_default())
}

/// Whether an awk's program is text on its command line: no option names a file with it before the
/// first operand (gawk 5.3, `main.c`).
fn awk_has_code(line: &[u8]) -> bool {
    let mut all = arguments(line).skip(1);
    while let Some(argument) = all.next() {
        match argument {
            b"-F" | b"-v" | b"-i" | b"-l" => {
                all.next();
            }
            _ if argument.starts_with(b"--file") || argument.starts_with(b"--exec") => {
                return false;
            }
            [b'-', b'f' | b'E', ..] => return false,
            [b'-', b'e', ..] | b"--" => return true,
            [b'-', ..] => {}
            _ => return true,
        }
    }
    true
}

/// Whether a process runs a program from its own command line: `python3 -c …`, `awk 'BEGIN …'`.
pub fn runs_its_argument(file: &[u8], line: Option<&[u8]>) -> bool {
    is_awk_one_liner(file, line)
        || is_versioned(file, LANGUAGES) && language(file, line).0 == Commands::Argument
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: Commands = Commands::Input { interactive: false };
    const INTERACTIVE: Commands = Commands::Input { interactive: true };

    fn of(file: &str, line: &str) -> Option<(InterpreterKind, Commands)> {
        let line = line.replace(' ', "\0") + "\0";
        recognise(file.as_bytes(), Some(line.as_bytes()), b"")
            .map(|interpreter| (interpreter.kind, interpreter.commands))
    }

    #[test]
    fn a_script_is_recognised_by_its_name() {
        for (file, line, name) in [
            ("bash", "bash /tmp/x", Some("x")),
            ("bash", "bash -x x /tmp/f", Some("x")),
            ("dash", "sh - /tmp/x a", Some("x")),
            ("busybox", "busybox sh -e /tmp/x", Some("x")),
            ("busybox", "sh /tmp/x", Some("x")),
            ("bash", "bash -c /tmp/x", None),
            ("bash", "bash -s x", None),
        ] {
            let line = line.replace(' ', "\0") + "\0";
            let found = script_name(file.as_bytes(), line.as_bytes());
            assert_eq!(found, name.map(str::as_bytes), "{line}");
        }
    }

    #[test]
    fn shells_take_commands_from_their_input_their_arguments_or_a_file() {
        for (file, line, commands) in [
            ("bash", "bash -i", INTERACTIVE),
            ("bash", "-bash", INPUT),
            ("bash", "bash", INPUT),
            ("bash", "bash --norc -i", INTERACTIVE),
            ("bash", "bash --rcfile /tmp/x -i", INTERACTIVE),
            ("bash", "bash --noprofile --norc -e -o pipefail /tmp/step.sh", Commands::Script),
            ("bash", "bash -c id", Commands::Argument),
            ("bash", "bash -lc id", Commands::Argument),
            ("bash", "bash -s a b", INPUT),
            ("bash", "bash /dev/stdin", INPUT),
            ("dash", "sh -xe /tmp/jenkins.sh", Commands::Script),
            ("dash", "sh -o errexit", INPUT),
            ("dash", "sh - /tmp/x", Commands::Script),
            ("dash", "/bin/sh /usr/lib/cgi-bin/x.cgi", Commands::Script),
            ("bash-5.2", "x", INPUT),
            ("busybox", "/bin/sh", INPUT),
            ("busybox", "busybox sh -i", INTERACTIVE),
            ("busybox", "busybox ash x.sh", Commands::Script),
        ] {
            assert_eq!(of(file, line), Some((InterpreterKind::Shell, commands)), "{line}");
        }
    }

    #[test]
    fn the_loader_runs_the_program_that_it_was_given() {
        const LOADER: &str = "ld-linux-x86-64.so.2";
        for (file, line, found) in [
            (LOADER, "/lib64/ld-linux-x86-64.so.2 /bin/bash -i", Some(("bash", "/bin/bash -i"))),
            (LOADER, "ld --argv0 x --inhibit-cache sh", Some(("sh", "sh"))),
            ("ld-musl-x86_64.so.1", "ld --library-path=/l dash a", Some(("dash", "dash a"))),
            (LOADER, "ld --list", None),
            (LOADER, "ld --argv0 x", None),
            (LOADER, "", None),
            ("ld.gold", "ld.gold /bin/bash", None),
        ] {
            let line = line.replace(' ', "\0") + "\0";
            let text = |(name, line): (&[u8], &[u8])| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(name), text(line).trim_end_matches('\0').replace('\0', " "))
            };
            let found = found.map(|(name, line)| (name.to_owned(), line.to_owned()));
            assert_eq!(loaded(file.as_bytes(), line.as_bytes()).map(text), found, "{line}");
        }
    }

    #[test]
    fn languages_take_commands_only_without_a_program() {
        for (file, line, commands) in [
            ("python3.11", "python3", INPUT),
            ("python3.11", "python3 -i", INTERACTIVE),
            ("python3.11", "python3 -i -c 0", INTERACTIVE),
            ("python3.11", "python3 -ic 0", INTERACTIVE),
            ("python3.11", "python3 -i x.py", INTERACTIVE),
            ("lua5.4", "lua5.4 -i -e x", INTERACTIVE),
            ("python3.11", "python3 -", INPUT),
            ("python3.11", "python3 -c x", Commands::Argument),
            ("python3.11", "python3 -m http.server", Commands::Argument),
            ("python3.11", "python3 -u agent.py", Commands::Script),
            ("perl", "perl -e x", Commands::Argument),
            ("php8.2", "php -r x", Commands::Argument),
            ("php8.2", "php -a", INTERACTIVE),
            ("node", "node -e x", Commands::Argument),
            ("node", "node", INPUT),
            ("lua5.4", "lua5.4 -i", INTERACTIVE),
        ] {
            assert_eq!(of(file, line), Some((InterpreterKind::Language, commands)), "{line}");
        }
    }

    #[test]
    fn a_title_leaves_the_source_of_commands_unknown() {
        for title in ["node /app/x.js", "Passenger RubyApp: /app", "worker", "puma:1", ""] {
            for file in ["node", "ruby3.1", "python3.11"] {
                let line = [title.as_bytes(), b"\0"].concat();
                let known = recognise(file.as_bytes(), Some(&line), b"");
                assert_eq!(known.map(|it| it.commands), Some(Commands::Unknown), "{title}");
            }
        }
        for called in ["python3", "/usr/bin/python3.11", "-python3", "python"] {
            assert_eq!(
                of("python3.11", called),
                Some((InterpreterKind::Language, INPUT)),
                "{called}"
            );
        }
    }

    #[test]
    fn xargs_takes_commands_if_each_line_is_one() {
        const LINES: Option<(InterpreterKind, Commands)> =
            Some((InterpreterKind::Shell, Commands::Lines));
        for (file, line, found) in [
            ("xargs", "xargs -I{} bash -c {}", LINES),
            ("xargs", "xargs -I % /bin/sh -c %", LINES),
            ("xargs", "xargs -i sh -c {}", LINES),
            ("xargs", "xargs --replace=@ sh -ec @", LINES),
            ("xargs", "xargs -d ; -n 1 sh -c", LINES),
            ("busybox", "busybox xargs -n1 sh -c", LINES),
            ("busybox", "xargs -n1 sh -c", LINES),
            ("xargs", "xargs -I{} sh -c wget", None),
            ("xargs", "xargs -n1 sh -c $0", None),
            ("xargs", "xargs sh", None),
            ("xargs", "xargs -I{} rm {}", None),
            ("xargs", "xargs", None),
        ] {
            assert_eq!(of(file, line), found, "{line}");
        }
    }

    #[test]
    fn programs_that_are_nobodys_file_are_makeshift() {
        for (file, line, makeshift) in [
            ("perl", "perl -MIO -e x", true),
            ("python3.11", "python3 -c x", true),
            ("python3.11", "python3", true),
            ("python3.11", "python3 /tmp/x.py", true),
            ("python3.11", "python3 -u /usr/lib/agent.py", false),
            ("python3.11", "python3 agent.py", false),
            ("python3.11", "python3 -m celery worker", false),
            ("php8.2", "php -r x", true),
            ("php8.2", "php -f /srv/x.php", false),
            ("node", "node --eval x", true),
            ("node", "node --run start", false),
            ("ruby3.1", "ruby -rsocket -e x", true),
            ("bash", "bash -c x", true),
            ("bash", "bash /usr/bin/agent", false),
            ("dash", "sh /dev/shm/.x a", true),
            ("busybox", "busybox sh /tmp/x", true),
        ] {
            let line = line.replace(' ', "\0") + "\0";
            let known = recognise(file.as_bytes(), Some(line.as_bytes()), b"").unwrap();
            let found = is_makeshift(known, file.as_bytes(), Some(line.as_bytes()));
            assert_eq!(found, makeshift, "{line}");
        }
    }

    #[test]
    fn an_awk_runs_its_argument_unless_an_option_names_a_file() {
        for (line, expected) in [
            ("gawk BEGIN{}", true),
            ("gawk -F : -v f=-f {print} -f", true),
            ("gawk -e BEGIN{} x", true),
            ("mawk -- BEGIN{}", true),
            ("gawk -f /usr/lib/x.awk", false),
            ("gawk -v a=b -f/usr/lib/x.awk", false),
            ("gawk --file=/usr/lib/x.awk", false),
            ("gawk -E /usr/bin/x a", false),
        ] {
            let line = line.replace(' ', "\0") + "\0";
            assert_eq!(is_awk_one_liner(b"gawk", Some(line.as_bytes())), expected, "{line}");
        }
    }

    #[test]
    fn other_programs_take_none() {
        for (file, line) in [
            ("cat", "cat"),
            ("busybox", "busybox nc 127.0.0.1 4444"),
            ("busybox", "cat"),
            ("ssh", "ssh host"),
            ("perlbug", "perlbug"),
        ] {
            assert_eq!(of(file, line), None, "{line}");
        }
        assert!(recognise(b"busybox", None, b"sh").is_some());
        assert!(recognise(b"busybox", None, b"nc").is_none());
    }
}
