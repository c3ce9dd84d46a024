//! The CPU time of a guest's virtual processors: threads of its monitor. Also whether that is so
//! little that the guest may still be starting.

use std::fs;
use std::io;
use std::time::Duration;

use panoptes_sources::GuestProcess;
use rustix::time::{ClockId, clock_gettime};

/// Maximum number of threads that are read.
const THREADS_MAX: usize = 4096;
/// Maximum size of what the kernel writes about one thread, in bytes.
const STAT_BYTES_MAX: usize = 4096;
/// The unit of CPU times in /proc: `USER_HZ` is 100 on x86-64 and arm64
/// (include/asm-generic/param.h).
const CPU_TICK: Duration = Duration::from_millis(10);

/// The CPU time that a guest's virtual processors have used since QEMU started. Where QEMU does
/// not name its threads (`-name debug-threads=on`), all but the main one count.
pub(crate) fn of_processors(pid: u32) -> io::Result<Duration> {
    let (mut named, mut others) = (None, Duration::ZERO);
    for entry in fs::read_dir(format!("/proc/{pid}/task"))?.take(THREADS_MAX) {
        // A thread may end meanwhile.
        let Ok(stat) = entry.and_then(|entry| fs::read(entry.path().join("stat"))) else {
            continue;
        };
        let Some(thread) = QemuThread::parse(&stat) else { continue };
        if thread.is_processor {
            *named.get_or_insert(Duration::ZERO) += thread.cpu_time;
        } else if thread.id != pid {
            others += thread.cpu_time;
        }
    }
    Ok(named.unwrap_or(others))
}

/// The processors of a guest that has no kernel yet have used less than this: an emulator needs
/// about ten seconds from the first instruction to the first program.
const START_CPU_TIME: Duration = Duration::from_secs(30);
/// A guest that is as old as this has started, whatever its processors have used.
const START_TIME: Duration = Duration::from_mins(5);

/// Whether a guest may still be in its firmware, its boot loader, or the first moments of its
/// kernel. On a busy host these may take minutes.
pub(crate) fn may_be_starting(process: &GuestProcess) -> bool {
    let (pid, start_ticks) = process.key();
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
    let tick_ms = CPU_TICK.as_millis() as u64;
    let start = Duration::from_millis(start_ticks.saturating_mul(tick_ms));
    let is_young = now.saturating_sub(start) < START_TIME;
    is_young && of_processors(pid).is_ok_and(|used| used < START_CPU_TIME)
}

/// One thread of QEMU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct QemuThread {
    id: u32,
    /// Whether its name is that of a virtual processor.
    is_processor: bool,
    cpu_time: Duration,
}

impl QemuThread {
    /// From /proc/PID/task/TID/stat (`do_task_stat`, fs/proc/array.c).
    fn parse(stat: &[u8]) -> Option<Self> {
        let stat = stat.get(..stat.len().min(STAT_BYTES_MAX))?;
        let text = str::from_utf8(stat).ok()?;
        // The name is in parentheses, and may contain some itself.
        let (id, rest) = text.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        // utime and stime are fields 14 and 15; the rest begins with field 3.
        let mut fields = rest.split(' ').skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let ticks = ticks()?.checked_add(ticks()?)?;
        let seconds_and_rest = (ticks / 100, u32::try_from(ticks % 100).ok()?);
        let cpu_time = Duration::from_secs(seconds_and_rest.0) + CPU_TICK * seconds_and_rest.1;
        Some(Self { id: id.parse().ok()?, is_processor: is_processor(name), cpu_time })
    }
}

/// Whether QEMU gives this name to the thread of a virtual processor: `CPU 0/KVM`, `CPU 0/TCG`,
/// `ALL CPUs/TCG` (accel/kvm/kvm-accel-ops.c, accel/tcg/tcg-accel-ops-*.c). Or another monitor:
/// Firecracker (src/vmm/src/vstate/vcpu.rs), cloud-hypervisor (vmm/src/cpu.rs), crosvm
/// (src/crosvm/sys/linux/vcpu.rs), kvmtool (builtin-run.c).
fn is_processor(name: &str) -> bool {
    const OTHERS: [&str; 4] = ["fc_vcpu ", "vcpu", "crosvm_vcpu", "kvm-vcpu-"];
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    OTHERS.iter().any(|begin| name.strip_prefix(begin).is_some_and(is_number))
        || name.split_once('/').is_some_and(|(processor, _)| {
            processor == "ALL CPUs"
                || processor
                    .strip_prefix("CPU ")
                    .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use panoptes_bounded as bounded;

    use super::*;

    #[test]
    fn the_name_and_the_times_of_a_thread_are_read() {
        let stat = |name: &str| {
            format!("77 ({name}) S 1 77 77 0 -1 138412352 99 0 0 0 1234 66 0 0 20 0 6 0 55 1 2")
        };
        let cpu_time = Duration::from_secs(13);
        for (name, is_processor) in [
            ("CPU 0/KVM", true),
            ("CPU 12/TCG", true),
            ("ALL CPUs/TCG", true),
            ("fc_vcpu 0", true),
            ("vcpu12", true),
            ("crosvm_vcpu1", true),
            ("kvm-vcpu-0", true),
            ("fc_api", false),
            ("vcpu", false),
            ("qemu-system-x86", false),
            ("CPU x/KVM", false),
            ("IO mon_iothread", false),
            ("a) S 1 (b", false),
        ] {
            let thread = QemuThread { id: 77, is_processor, cpu_time };
            assert_eq!(QemuThread::parse(stat(name).as_bytes()), Some(thread), "{name}");
        }
        for bad in
            ["", "77 (a", "77 (a) S 1 2", "x (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13", "\u{fffd}"]
        {
            assert_eq!(QemuThread::parse(bad.as_bytes()), None, "{bad}");
        }
        let much = format!("77 (a) S 1 2 3 4 5 6 7 8 9 10 {} {}", u64::MAX, u64::MAX);
        assert_eq!(QemuThread::parse(much.as_bytes()), None);
    }

    #[test]
    fn a_thread_that_works_uses_time() {
        let pid = std::process::id();
        let before = of_processors(pid).unwrap();
        let begin = std::time::Instant::now();
        let mut sum = 0_u64;
        while of_processors(pid).unwrap() < before + CPU_TICK * 3 {
            sum = (0..100_000).fold(sum, u64::wrapping_add);
            assert!(begin.elapsed() < Duration::from_mins(1), "{sum}");
        }
        assert!(of_processors(u32::MAX).is_err());
    }

    #[test]
    fn a_process_that_has_just_begun_may_be_starting() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = GuestProcess::open(child.id()).unwrap();
        assert!(may_be_starting(&process));
        child.kill().unwrap();
        bounded::wait(&mut child).unwrap();
        assert!(!may_be_starting(&process));
    }
}
