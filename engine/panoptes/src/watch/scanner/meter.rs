//! What the present thread uses: CPU time, and the time for which it had to wait. And where it
//! runs.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;
use rustix::process::{getpriority_process, setpriority_process};
use rustix::time::{ClockId, clock_gettime};

use super::turns::ScannerKind;
use crate::message::Messages;
use crate::scanner_cores::{allowed_cores, ranges};

/// The nice value of a slow scanner, in addition to that of the program: a tenth of the weight of a
/// quick scanner, which preempts it, and enough to make progress beside other programs.
const SLOW_NICE: i32 = 10;
/// The largest nice value.
const NICE_MAX: i32 = 19;

/// How long a thread has waited for a core that another thread had.
#[derive(Debug, Default)]
pub(super) struct RunDelay(Option<File>);

impl RunDelay {
    /// That of the present thread.
    pub(super) fn of_this_thread() -> Self {
        Self(File::open("/proc/thread-self/schedstat").ok())
    }

    /// Nanoseconds so far; 0 if the kernel does not count them (`CONFIG_SCHED_INFO`).
    fn ns(&self) -> u64 {
        // Time on a core, time on a run queue, number of time slices
        // (`proc_pid_schedstat`, fs/proc/base.c).
        let mut text = [0; 64];
        let length = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let text = std::str::from_utf8(&text[..length.unwrap_or(0)]).unwrap_or_default();
        text.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

/// The thread id of the present thread.
pub(super) fn thread_id() -> u32 {
    nix::unistd::gettid().as_raw().cast_unsigned()
}

/// The time in nanoseconds for which a thread of this process has had a core or could have used
/// one; 0 if that is not known. It stands still while the thread waits for something.
pub(in crate::watch) fn runnable_ns(thread_id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread_id}/schedstat"));
    let text = text.unwrap_or_default();
    let times = text.split(' ').take(2).filter_map(|number| number.parse::<u64>().ok());
    times.fold(0, u64::saturating_add)
}

/// Whether a thread of this process has a core or waits for one. [`runnable_ns`] has such a wait
/// only when it is over (`sched_info_arrive`, kernel/sched/stats.h).
pub(in crate::watch) fn is_runnable(thread_id: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread_id}/stat"));
    let text = text.unwrap_or_default();
    // The name, in parentheses, may have any character (proc(5)).
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
}

/// Measures one scan on this thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScannerMeter<'a> {
    run_delay: &'a RunDelay,
    run_delay_ns: u64,
    begin: Instant,
    cpu_ns: u64,
    waits: i64,
}

impl<'a> ScannerMeter<'a> {
    pub(super) fn start(run_delay: &'a RunDelay) -> Self {
        let run_delay_ns = run_delay.ns();
        let (begin, cpu_ns, waits) = (Instant::now(), cpu_ns(), waits());
        Self { run_delay, run_delay_ns, begin, cpu_ns, waits }
    }

    /// Nanoseconds that have passed.
    pub(super) fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds that the scan cost: its CPU time, and the time for which it waited for something
    /// (a device, a disk): meanwhile, the other systems of the scanner wait, too. The time for
    /// which another thread had the core is no cost.
    pub(super) fn cost_ns(&self) -> u64 {
        let cpu_ns = cpu_ns().saturating_sub(self.cpu_ns);
        if waits() == self.waits {
            return cpu_ns;
        }
        let delay = self.run_delay.ns().saturating_sub(self.run_delay_ns);
        self.elapsed_ns().saturating_sub(delay).max(cpu_ns)
    }

    /// Whether the scan cost more. Until that much time has passed, this needs no system call.
    pub(super) fn exceeds(&self, ns: u64) -> bool {
        self.elapsed_ns() > ns && self.cost_ns() > ns
    }
}

/// The CPU time of this thread in nanoseconds.
pub(super) fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// How often this thread has waited for something.
fn waits() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.voluntary_context_switches())
}

/// Binds this thread to the cores of its scanner, and sets its priority.
pub(super) fn place(kind: ScannerKind, cores: &[usize], messages: &Messages) {
    let mut set = CpuSet::new();
    let is_known = cores.iter().all(|core| set.set(*core).is_ok());
    match sched_setaffinity(Pid::from_raw(0), &set) {
        Ok(()) if is_known => messages.debug(format_args!("a scanner runs on {cores:?}")),
        _ if cores.is_empty() => {}
        _ => messages.warning(unpinned(cores, &allowed_cores())),
    }
    if kind == ScannerKind::Slow {
        let nice = getpriority_process(None).unwrap_or(0).saturating_add(SLOW_NICE).min(NICE_MAX);
        if let Err(error) = setpriority_process(None, nice) {
            messages.warning(format_args!("cannot lower the priority of a scanner: {error}"));
        }
    }
}

/// The warning that a scanner's cores are not among those that this process may use.
fn unpinned(cores: &[usize], allowed: &[usize]) -> String {
    let noun = if cores.len() == 1 { "core" } else { "cores" };
    format!(
        "cannot pin a scanner to {noun} {}: this process may use {}; it will run on any core",
        ranges(cores),
        ranges(allowed)
    )
}

#[cfg(test)]
mod tests {
    use panoptes_bounded as bounded;
    use std::hint::black_box;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_core_that_does_not_exist_is_answered_with_those_that_do() {
        assert_eq!(
            unpinned(&[9], &[0, 1]),
            "cannot pin a scanner to core 9: this process may use 0-1; it will run on any core"
        );
    }

    #[test]
    fn work_costs_cpu_time_and_waiting_costs_all_that_passes() {
        let run_delay = RunDelay::of_this_thread();
        let meter = ScannerMeter::start(&run_delay);
        let mut sum = 0_u64;
        while cpu_ns() - meter.cpu_ns < 5_000_000 {
            sum = black_box(sum.wrapping_mul(31));
        }
        assert!(meter.cost_ns() >= 5_000_000);
        assert!(meter.exceeds(1_000_000) && !meter.exceeds(u64::MAX));
        let meter = ScannerMeter::start(&run_delay);
        std::thread::sleep(Duration::from_millis(20));
        // It may have waited for a core afterwards.
        assert!(meter.cost_ns() >= 20_000_000 && meter.exceeds(19_000_000));
    }

    #[test]
    fn a_thread_that_waits_is_not_runnable() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let state = std::sync::Arc::new(std::sync::atomic::AtomicU32::default());
        let shown = std::sync::Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let mut sum = 0_u64;
            while cpu_ns() < 5_000_000 {
                sum = black_box(sum.wrapping_mul(31));
            }
            shown.store(thread_id(), Ordering::SeqCst);
            let _ = bounded::recv(&receive);
        });
        while state.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
        let id = state.load(Ordering::SeqCst);
        let before = runnable_ns(id);
        std::thread::sleep(Duration::from_millis(20));
        assert!(before >= 5_000_000, "{before}");
        assert_eq!(runnable_ns(id), before);
        assert!(!is_runnable(id) && is_runnable(thread_id()));
        drop(send);
        thread.join().unwrap();
    }

    /// One short wait made the time of all other programs a cost.
    #[test]
    fn the_time_of_other_threads_is_no_cost_although_a_scan_has_waited() {
        let stop = AtomicBool::new(false);
        let spin = || {
            pin();
            while !stop.load(Ordering::Relaxed) {
                black_box(0);
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..3).map(|_| scope.spawn(spin)).collect();
            let meter = scope.spawn(|| {
                pin();
                let run_delay = RunDelay::of_this_thread();
                if run_delay.ns() == 0 {
                    std::thread::sleep(Duration::from_millis(50));
                }
                let known = run_delay.ns() > 0;
                let meter = ScannerMeter::start(&run_delay);
                std::thread::sleep(Duration::from_millis(1));
                while cpu_ns() - meter.cpu_ns < 50_000_000 {
                    black_box(0);
                }
                (known, meter.cost_ns(), meter.elapsed_ns())
            });
            let (known, cost, elapsed) = meter.join().unwrap();
            stop.store(true, Ordering::Relaxed);
            for other in others {
                other.join().unwrap();
            }
            if !known {
                panoptes_needs::skip::test("/proc/self/schedstat");
                return;
            }
            assert!((50_000_000..70_000_000).contains(&cost), "{cost} ns of {elapsed} ns");
            assert!(elapsed > cost + 50_000_000, "others had the core: {cost} of {elapsed} ns");
        });
    }

    /// Runs this thread on the first allowed core.
    fn pin() {
        let mut set = CpuSet::new();
        set.set(allowed_cores()[0]).unwrap();
        sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    }

    #[test]
    fn a_slow_scanner_has_a_low_priority() {
        let messages =
            Messages::new(Box::new(std::io::sink()), false, crate::config::LogLevel::Error);
        // The test itself may have been started by nice(1).
        let own = getpriority_process(None).unwrap();
        std::thread::spawn(move || {
            let cores = allowed_cores();
            place(ScannerKind::Slow, &cores[..1], &messages);
            assert_eq!(getpriority_process(None), Ok((own + SLOW_NICE).min(NICE_MAX)));
            assert_eq!(allowed_cores(), cores[..1]);
        })
        .join()
        .unwrap();
        assert_eq!(getpriority_process(None), Ok(own), "of that thread alone");
    }
}
