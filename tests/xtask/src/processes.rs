//! Ends processes, and waits for them for a limited time.

use std::collections::BTreeMap;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Waits until a program has ended; `None` if it still runs after `limit`.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begin = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || begin.elapsed() > limit {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills a process and all that it has started, by `/proc`. What has another parent by now lives.
pub(crate) fn end_tree(process: u32) {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut ended = vec![process];
    let mut next = 0;
    while let Some(process) = ended.get(next).copied() {
        ended.extend(children.get(&process).into_iter().flatten());
        next += 1;
    }
    for process in ended {
        let _ = kill(Pid::from_raw(process as i32), Signal::SIGKILL);
    }
}

/// The parent in a process's `stat` (proc(5)): the second word behind the name in parentheses.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_may_look_like_fields() {
        assert_eq!(super::parent("7 (a) S 1) S 42 7 7 0"), Some(42));
        assert_eq!(super::parent("7"), None);
    }
}
