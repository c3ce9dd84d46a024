//! bash's history: typed commands, and ways to disable or clear it.
//!
//! The lines are typed into an interactive bash in a terminal of its own, each when the prompt is
//! there. The expected records follow from that bash's own list of remembered commands. Removing or
//! emptying the history's file without bash is no activity: H09 verifies that it raises no alert.

use super::{Expected, Scenario, Stage, record};

/// A script that begins with functions: `terminal [PROGRAM ARGUMENTS…]` starts a shell (by default
/// `$program` or bash) in a terminal, as `$shell`; its startup file ends with `$startup`. `types
/// LINE…` types lines into it, each when the prompt is there; `times` asks bash when it ran its
/// last commands but this (`$time1` is the latest); `leave` ends it.
macro_rules! script {
    ($script:literal) => {
        concat!(
            r#"
export HOME=/tmp/typed
terminal() {
  [ $# -gt 0 ] || set -- ${program:-bash}
  rm -rf /tmp/typed; mkdir -m 777 /tmp/typed; mkfifo /tmp/typed/in
  printf 'PS1=@ready@; PS2=@ready@\n%s\n' "${startup:-}" > /tmp/typed/.bashrc
  python3 -c '
import os, pty, select, sys
lines = os.open("/tmp/typed/in", os.O_RDWR)
pid, terminal = pty.fork()
if not pid:
    os.close(lines)
    os.environ.update(PS1="@ready@", PS2="@ready@", TERM="dumb", ENV="/tmp/typed/.bashrc")
    os.execvp(sys.argv[1], sys.argv[1:])
said = b""
def until_ready():
    global said
    while b"@ready@" not in said:
        said += os.read(terminal, 4096)
    said = said.split(b"@ready@", 1)[1]
def note(name, text):
    with open("/tmp/typed/new", "w") as file: file.write(text)
    os.rename("/tmp/typed/new", "/tmp/typed/" + name)
until_ready()
note("shell", str(pid))
typed, rest = 0, b""
try:
    while True:
        rest += os.read(lines, 4096)
        while b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            os.write(terminal, line + b"\n")
            until_ready()
            typed += 1
            note("typed", str(typed))
except OSError:
    pass
os.waitpid(pid, 0)
note("left", "")
' "$@" < /dev/null > /dev/null 2>&1 &
  await '[ -s /tmp/typed/shell ]'
  fact shell $(cat /tmp/typed/shell); fact typed 0
}
types() {
  for line; do
    printf '%s\n' "$line" > /tmp/typed/in
    typed=$((typed + 1))
    await '[ "$(cat /tmp/typed/typed 2>/dev/null)" = $typed ]'
    # The next line may take this one away again.
    scanned
  done
  fact typed $typed
}
times() {
  types "HISTTIMEFORMAT='%FT%T ' history 4 > /tmp/typed/said"
  n=3
  while read -r _ time _; do fact time$n "$time.000000000+00:00"; n=$((n - 1)); done < /tmp/typed/said
}
leave() { printf 'exit\n' > /tmp/typed/in; await '[ -e /tmp/typed/left ]'; rm -rf /tmp/typed; }
"#,
            $script
        )
    };
}

const EXECUTED: &str = "shell_command_executed";
const CLEARED: &str = "shell_history_cleared";
const DISABLED: &str = "shell_history_disabled";

/// Commands of a line, typed into the shell.
macro_rules! typed {
    ($line:literal $(, $more:tt)*) => {
        record(EXECUTED).with(&[
            ("process.process_id", "$shell"),
            ("shell_history.shell_command_execution_history.0.command_line", $line),
            $($more,)*
        ])
    };
}

/// An alert for the shell, with the end of its reason.
macro_rules! alert {
    ($activity:ident, $reason:literal) => {
        record($activity)
            .with(&[("process.process_id", "$shell"), ("detection.reason", concat!("~", $reason))])
    };
}

/// Every command that is reported as typed.
const fn commands() -> Expected {
    record(EXECUTED)
}

const fn shell(id: &'static str, name: &'static str) -> Scenario {
    Scenario::new(id, name)
        .stage(Stage::Behaviour)
        .prepare(script!("terminal; types 'echo first' 'echo second'"))
        .clean(script!("leave"))
}

pub(super) const SCENARIOS: &[Scenario] = &[
    shell("H01", "commands are typed")
        .act(script!(
            "act
             types 'ls /tmp' \"echo 'two  words' | cat\" 'for i in 1 2; do' 'echo $i' 'done'; times"
        ))
        .expect(&[
            typed!("ls /tmp", ("shell_history.shell_command_execution_history.0.command_execution_time_iso_8601_ns", "$time3")),
            typed!("echo 'two  words' | cat", ("shell_history.shell_command_execution_history.0.command_execution_time_iso_8601_ns", "$time2")),
            typed!("for i in 1 2; do echo $i; done", ("shell_history.shell_command_execution_history.0.command_execution_time_iso_8601_ns", "$time1")),
            commands().times(4),
        ]),
    shell("H02", "a command with a space before it, which bash remembers")
        .act(script!("act; types ' id -u' true"))
        .expect(&[typed!(" id -u"), typed!("true"), commands().times(2)]),
    shell("H02b", "twin: as distributions have it, bash forgets what begins with a space")
        .prepare(script!("startup=HISTCONTROL=ignoreboth; terminal; types 'echo first'"))
        .act(script!("act; types ' id -u' true true"))
        .expect(&[typed!("true"), commands()]),
    shell("H03", "history -c")
        .act(script!("act; types 'history -c' true"))
        .expect(&[alert!(CLEARED, "(history -c)"), typed!("true")]),
    shell("H03b", "history -d takes a command out")
        .act(script!("act; types 'history -d 1'"))
        .expect(&[alert!(CLEARED, "(history -d)"), typed!("history -d 1"), commands()]),
    shell("H04", "HISTSIZE=0")
        .act(script!("act; types HISTSIZE=0 true"))
        .expect(&[alert!(CLEARED, "(HISTSIZE=0)"), alert!(DISABLED, ": HISTSIZE=0")]),
    shell("H05", "set +o history")
        .act(script!("act; types 'set +o history' 'echo unseen'"))
        .expect(&[
            alert!(DISABLED, ": set +o history"),
            typed!("set +o history"),
            commands(),
        ]),
    shell("H06", "unset HISTFILE")
        .act(script!("act; types 'unset HISTFILE' true"))
        .expect(&[alert!(DISABLED, ": HISTFILE is unset"), typed!("true"), commands().times(2)]),
    shell("H06b", "HISTFILE=/dev/null")
        .act(script!("act; types HISTFILE=/dev/null true"))
        .expect(&[alert!(DISABLED, ": HISTFILE=/dev/null"), typed!("true"), commands().times(2)]),
    shell("H06c", "HISTFILESIZE=0")
        .act(script!("act; types HISTFILESIZE=0 true"))
        .expect(&[alert!(DISABLED, ": HISTFILESIZE=0"), typed!("true"), commands().times(2)]),
    shell("H07", "HISTIGNORE fits every command")
        .act(script!("act; types 'HISTIGNORE=\"*\"' 'echo unseen'"))
        .expect(&[alert!(DISABLED, ": HISTIGNORE fits all"), commands()]),
    shell("H07b", "HISTCONTROL is made to ignore what begins with a space")
        .act(script!("act; types HISTCONTROL=ignorespace ' echo unseen' true"))
        .expect(&[
            record(DISABLED).with(&[
                ("process.process_id", "$shell"),
                ("detection.reason", "~from now on: HISTCONTROL has ignorespace"),
                ("detection.confidence", "low"),
            ]),
            typed!("true"),
            commands().times(2),
        ]),
    shell("H09", "twin: the history's file is removed, and bash saves to it later")
        .act(script!(
            "act
             types 'history -a' 'rm ~/.bash_history' 'ln -sf /dev/null ~/.bash_history' 'echo > ~/.bash_history'"
        ))
        .expect(&[typed!("rm ~/.bash_history"), commands().times(4)]),
    shell("H11", "twin: a list that is full forgets the oldest commands")
        .prepare(script!("startup=HISTSIZE=4; terminal; types 'echo 1' 'echo 2' 'echo 3'"))
        .act(script!("act; types 'echo 4' 'echo 5' 'echo 6' 'echo 7' 'echo 8' 'echo 9'"))
        .expect(&[typed!("echo 4"), typed!("echo 9"), commands().times(6)]),
    shell("H11b", "twin: a list is made smaller")
        .act(script!("act; types 'echo third' HISTSIZE=2 'echo 5' 'echo 6' 'echo 7'"))
        .expect(&[typed!("echo 7"), commands().times(5)]),
    shell("H11c", "twin: commands are called up, edited, and run as something else")
        .act(script!(
            "act
             up=$(printf '\\020')
             types 'echo third' \"$up$up 2\" \"$up$up$up${up}s\" 'echo end'"
        ))
        .expect(&[
            typed!("echo third"),
            typed!("echo second 2"),
            typed!("echo firsts"),
            typed!("echo end"),
            commands().times(4),
        ]),
    shell("H11d", "history -c, followed by a list of other commands")
        .act(script!(
            "act
             types 'history -c; printf \"a\\nb\\n\" > ~/other; history -r ~/other' 'echo end'"
        ))
        .prepare(script!(
            "terminal; types 'echo 1' 'echo 2' 'echo 3' 'echo 4' 'echo 5' 'echo 6'"
        ))
        .expect(&[alert!(CLEARED, "(history -c)"), typed!("echo end"), commands().at_least(1)]),
    shell("H12", "twin: shells into which nobody types keep no history")
        .act(script!(
            "act
             bash -c 'unset HISTFILE; HISTSIZE=0; set +o history; touch /tmp/typed/1; read -r _ <> /run/pace/never' & one=$!
             echo 'set -o history; set +o history; touch /tmp/typed/2; read -r _ <> /run/pace/never' > /tmp/typed/script
             bash /tmp/typed/script & two=$!
             await '[ -e /tmp/typed/1 ] && [ -e /tmp/typed/2 ]'; scanned; over $one $two
             types 'echo end'"
        ))
        .expect(&[typed!("echo end"), commands()]),
    shell("H14", "twin: a shell's forks and its successors do not report its commands again")
        .act(script!(
            "act
             types '(sleep 0.4; echo in a subshell)' 'exec bash'
             types 'echo become' 'bash'
             types 'echo inner' exit 'setpriv --reuid 1000 --regid 1000 --clear-groups bash'
             types 'echo other' exit 'echo last'"
        ))
        .expect(&[
            typed!("(sleep 0.4; echo in a subshell)"),
            typed!("echo become"),
            typed!("bash"),
            record(EXECUTED).with(&[(
                "shell_history.shell_command_execution_history.0.command_line",
                "echo inner",
            )]),
            typed!("echo last"),
            // An `exec` or `exit` may disappear with its shell before a scan sees it.
            commands().at_least(7),
        ]),
    shell("H15", "twin: dash and busybox have histories of their own, or none")
        .prepare(script!("terminal dash -i; types 'set +o nolog' 'echo one'"))
        .act(script!(
            "act
             types 'echo two' 'busybox ash -i' 'unset HISTFILE' 'HISTSIZE=0' exit
             fact pid $shell"
        ))
        .expect(&[record("process_created").with(&[
            ("process.process_parent_process_id", "$shell"),
        ]).at_least(1), commands().times(0)]),
];
