//! Guests that die by themselves: the emulator's failure, never a bug of Panoptes.
//!
//! Nothing writes to a guest's memory, apart from tests that patch it on purpose. So the emulator
//! has broken a kernel that reports an oops on its own console. The user of the guest begins again
//! with another one.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The variable that names a file which gets a line for each guest that died; `cargo xtask test`
/// sets it.
pub const VARIABLE: &str = "PANOPTES_GUEST_DEATHS";
/// Maximum number of attempts in a guest, the first one included.
pub const ATTEMPTS: u32 = 3;

/// A line on the console that shows a failure of the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sign<'a> {
    /// The kernel is broken.
    Dead(&'a str),
    /// A processor stalled for long; on a busy host that passes.
    Stalled(&'a str),
}

/// Panics caused by the programs in the guest, or by how the rig starts it (kernel/exit.c,
/// mm/oom_kill.c, init/do_mounts.c, init/main.c). If an oops came first, the console shows it
/// earlier.
const CAUSED_BY_RIG: &[&str] = &[
    "Attempted to kill init!",
    "no killable processes",
    "deadlocked on memory",
    "Unable to mount root fs",
    "No working init found",
    "Requested init",
];

/// Messages of a kernel that stalled for a while (kernel/watchdog.c, kernel/rcu/tree_stall.h,
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

/// Messages of a kernel that is broken (kernel/panic.c, lib/bug.c, arch/*/mm/fault.c).
const ENDS: &[&str] = &["Kernel panic - not syncing", "kernel BUG at", "BUG: ", "Oops: "];

/// The first line that shows that a kernel is broken, else the first that shows that it stalled.
pub(crate) fn sign(console: &str) -> Option<Sign<'_>> {
    let is_stall = |line: &&str| STALLS.iter().any(|words| line.contains(words));
    let is_from_rig = |line: &&str| CAUSED_BY_RIG.iter().any(|words| line.contains(words));
    let is_end = |line: &&str| {
        !is_stall(line)
            && !is_from_rig(line)
            && (ENDS.iter().any(|words| line.contains(words)) || has_die_counter(line))
    };
    let dead = console.lines().find(is_end).map(|line| Sign::Dead(line.trim_end()));
    dead.or_else(|| console.lines().find(is_stall).map(|line| Sign::Stalled(line.trim_end())))
}

/// Whether a line ends as all messages of `die` do: `int3: 0000 [#1] PREEMPT SMP`
/// (arch/*/kernel/dumpstack.c, traps.c).
fn has_die_counter(line: &str) -> bool {
    let Some((_, counter)) = line.split_once(" [#") else { return false };
    let digits = counter.trim_start_matches(|c: char| c.is_ascii_digit());
    digits.len() < counter.len() && digits.starts_with(']')
}

/// All deaths that this process saw.
static DEATHS: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// The number of deaths that failed no caller, because another guest took over at once.
static OVERCOME: AtomicUsize = AtomicUsize::new(0);
/// The beginning of a death's line in the file, and the line for one that was overcome.
const DIED: &str = "died: ";
const OVER: &str = "overcome";

/// Keeps a death for the report at the end, and prints it.
pub(crate) fn record(kernel: &str, cause: &str) {
    let line = format!("Linux {kernel}: {cause}");
    eprintln!("rig: a guest died by itself, which is the emulator's failure: {line}");
    note(&format!("{DIED}{line}"));
    DEATHS.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// Marks `count` deaths as overcome: no caller failed because of them.
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

/// Parses the file: the deaths, and how many of them were not overcome.
pub fn read(text: &str) -> (Vec<String>, usize) {
    let deaths: Vec<String> =
        text.lines().filter_map(|line| line.strip_prefix(DIED)).map(str::to_owned).collect();
    let overcome = text.lines().filter(|line| *line == OVER).count();
    let open = deaths.len().saturating_sub(overcome);
    (deaths, open)
}

/// The guests that died since this process began, one line each: the kernel and what its console
/// showed.
pub fn deaths() -> Vec<String> {
    DEATHS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Runs `work`, and again if a guest of it died by itself, until [`ATTEMPTS`] have died.
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
            "[    4.1] general protection fault, probably for non-canonical address 0x0: \
             0000 [#2] SMP",
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
    fn a_panic_caused_by_the_rig_is_no_death_of_the_guest() {
        for line in [
            "[    4.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
            "[    4.1] Kernel panic - not syncing: \
             VFS: Unable to mount root fs on unknown-block(0,0)",
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
