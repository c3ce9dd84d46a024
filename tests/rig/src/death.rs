//! Guests that die by themselves: the emulator's failure, never a finding.
//!
//! Nobody writes to a guest's memory, apart from tests that patch it on purpose. So a kernel that
//! reports an oops on its own console fell victim to the emulator. Whoever used the guest begins
//! anew with another one.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The variable with the file that gets a line for each guest that died; `cargo xtask test` sets
/// it.
pub const VARIABLE: &str = "PANOPTES_GUEST_DEATHS";
/// How often something is tried in a guest, the first time included.
pub const ATTEMPTS: u32 = 3;

/// What a console shows of a kernel that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sign<'a> {
    /// The kernel is broken.
    Dead(&'a str),
    /// A processor stood still for long: on a busy machine that passes.
    Stalled(&'a str),
}

/// Panics that are the doing of what we run in the guest, or of how we start it (kernel/exit.c,
/// mm/oom_kill.c, init/do_mounts.c, init/main.c). Where an oops came first, it shows before.
const OURS: &[&str] = &[
    "Attempted to kill init!",
    "no killable processes",
    "deadlocked on memory",
    "Unable to mount root fs",
    "No working init found",
    "Requested init",
];

/// Words of a kernel that stood still for a while (kernel/watchdog.c, kernel/rcu/tree_stall.h,
/// kernel/hung_task.c).
const STALLS: &[&str] = &[
    "soft lockup",
    "hard LOCKUP",
    "Watchdog detected hard",
    "self-detected stall",
    "detected stalls",
    "detected expedited stalls",
    "blocked for more than",
    "workqueue lockup",
];

/// Words of a kernel that is broken (kernel/panic.c, lib/bug.c, arch/*/mm/fault.c).
const ENDS: &[&str] = &["Kernel panic - not syncing", "kernel BUG at", "BUG: ", "Oops: "];

/// The first line that shows that a kernel is broken, else the first that shows that it stood
/// still.
pub(crate) fn sign(console: &str) -> Option<Sign<'_>> {
    let is_stall = |line: &&str| STALLS.iter().any(|words| line.contains(words));
    let is_ours = |line: &&str| OURS.iter().any(|words| line.contains(words));
    let is_end = |line: &&str| {
        !is_stall(line)
            && !is_ours(line)
            && (ENDS.iter().any(|words| line.contains(words)) || has_die_counter(line))
    };
    let dead = console.lines().find(is_end).map(|line| Sign::Dead(line.trim_end()));
    dead.or_else(|| console.lines().find(is_stall).map(|line| Sign::Stalled(line.trim_end())))
}

/// Whether a line ends as all those of `die` do: `int3: 0000 [#1] PREEMPT SMP`
/// (arch/*/kernel/dumpstack.c, traps.c).
fn has_die_counter(line: &str) -> bool {
    let Some((_, counter)) = line.split_once(" [#") else { return false };
    let digits = counter.trim_start_matches(|c: char| c.is_ascii_digit());
    digits.len() < counter.len() && digits.starts_with(']')
}

/// All deaths that this process met.
static DEATHS: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// How many of them spoilt nothing, since another guest took over at once.
static OVERCOME: AtomicUsize = AtomicUsize::new(0);
/// What stands before a death in the file, and for one that was overcome.
const DIED: &str = "died: ";
const OVER: &str = "overcome";

/// Keeps a death for the report at the end, and prints it.
pub(crate) fn record(kernel: &str, cause: &str) {
    let line = format!("Linux {kernel}: {cause}");
    eprintln!("rig: a guest died by itself, which is the emulator's failure: {line}");
    note(&format!("{DIED}{line}"));
    DEATHS.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// Takes back so many deaths: nothing that was asked for failed by them.
pub(crate) fn overcome(count: usize) {
    OVERCOME.fetch_add(count, Ordering::Relaxed);
    (0..count).for_each(|_| note(OVER));
}

/// Adds a line to the file that [`VARIABLE`] names.
fn note(line: &str) {
    let Some(path) = std::env::var_os(VARIABLE).map(PathBuf::from) else { return };
    let file = std::fs::File::options().create(true).append(true).open(&path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
        eprintln!("rig: cannot write to {}: {error}", path.display());
    }
}

/// What the file says: the deaths, and how many of them were not overcome.
pub fn read(text: &str) -> (Vec<String>, usize) {
    let deaths: Vec<String> =
        text.lines().filter_map(|line| line.strip_prefix(DIED)).map(str::to_owned).collect();
    let overcome = text.lines().filter(|line| *line == OVER).count();
    let open = deaths.len().saturating_sub(overcome);
    (deaths, open)
}

/// The guests that died since this process began, a line each: the kernel and what its console
/// showed.
pub fn deaths() -> Vec<String> {
    DEATHS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Does something, and again where a guest of it died by itself, until [`ATTEMPTS`] have died.
pub fn survive<T>(mut work: impl FnMut() -> T) -> T {
    let open = || deaths().len() - OVERCOME.load(Ordering::Relaxed);
    let begin = open();
    loop {
        let before = open();
        let done = work();
        if open() == before || open() - begin >= ATTEMPTS as usize {
            return done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_guest_spoilt_is_done_again() {
        let mut tries = 0;
        let done = survive(|| {
            tries += 1;
            if tries < 3 {
                record("unit test", "int3: 0000 [#1]");
            }
            tries
        });
        assert_eq!(done, 3);
        assert_eq!(survive(|| 7), 7);
        let mut tries = 0;
        survive(|| {
            tries += 1;
            record("unit test", "int3: 0000 [#1]");
        });
        assert_eq!(tries, ATTEMPTS);
    }

    #[test]
    fn a_kernel_that_reports_an_oops_is_dead() {
        for line in [
            "[    4.1] int3: 0000 [#1] PREEMPT SMP NOPTI",
            "[    4.1] Oops: double fault: 0000 [#1] SMP",
            "[    4.1] general protection fault, probably for non-canonical address 0x0: 0000 [#2] SMP",
            "[    4.1] Internal error: Oops: 0000000096000004 [#1] SMP",
            "[    4.1] BUG: unable to handle page fault for address: ffffffff00000000",
            "[    4.1] kernel BUG at lib/list_debug.c:59!",
            "[    4.1] Kernel panic - not syncing: Fatal exception in interrupt",
        ] {
            let console = format!("[    0.0] Linux version 6.1.0\n{line}\r\n[    4.2] CPU: 0\n");
            assert_eq!(sign(&console), Some(Sign::Dead(line)), "{line}");
        }
    }

    #[test]
    fn a_panic_that_is_ours_is_a_finding() {
        for line in [
            "[    4.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
            "[    4.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            "[    4.1] Kernel panic - not syncing: Out of memory and no killable processes...",
        ] {
            assert_eq!(sign(line), None, "{line}");
        }
        let after = "int3: 0000 [#1] SMP\nKernel panic - not syncing: Attempted to kill init!";
        assert_eq!(sign(after), Some(Sign::Dead("int3: 0000 [#1] SMP")));
    }

    #[test]
    fn deaths_that_were_overcome_do_not_count() {
        let deaths = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(read(""), (Vec::new(), 0));
        assert_eq!(read("died: a\novercome\ndied: b\n"), (deaths(&["a", "b"]), 1));
        assert_eq!(read("died: a\novercome\n"), (deaths(&["a"]), 0));
    }

    #[test]
    fn a_kernel_that_stands_still_for_a_while_is_not_dead() {
        let stall = "[   40.0] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [sh:12]";
        assert_eq!(sign(stall), Some(Sign::Stalled(stall)));
        let both = format!("{stall}\n[   41.0] int3: 0000 [#1] SMP");
        assert_eq!(sign(&both), Some(Sign::Dead("[   41.0] int3: 0000 [#1] SMP")));
    }

    #[test]
    fn a_healthy_console_shows_nothing() {
        for line in ["[    1.0] NX protection: active", "agent: cannot load /x [#]", "a [#12 b", ""]
        {
            assert_eq!(sign(line), None, "{line}");
        }
    }
}
