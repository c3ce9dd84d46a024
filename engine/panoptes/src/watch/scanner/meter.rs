//! What the present thread uses: CPU time, or more if it had to wait. And where it runs.

use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;
use rustix::process::{getpriority_process, setpriority_process};
use rustix::time::{ClockId, clock_gettime};

use super::turns::Kind;
use crate::message::Messages;

/// The nice value of a slow scanner, in addition to that of the program: a tenth of the weight of a
/// quick scanner, which preempts it, and enough to go on beside other programs.
const SLOW_NICE: i32 = 10;
/// The largest nice value.
const NICE_MAX: i32 = 19;

/// Measures one scan on this thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    begin: Instant,
    cpu_ns: u64,
    waits: i64,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self { begin: Instant::now(), cpu_ns: cpu_ns(), waits: waits() }
    }

    /// Nanoseconds that have passed.
    pub(super) fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds that the scan cost: all that passed if it waited for something (a device, a
    /// disk, another thread); else the CPU time, since another thread may have had the core.
    pub(super) fn cost_ns(&self) -> u64 {
        if waits() == self.waits { cpu_ns().saturating_sub(self.cpu_ns) } else { self.elapsed_ns() }
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
pub(super) fn place(kind: Kind, cores: &[usize], messages: &Messages) {
    let mut set = CpuSet::new();
    let is_known = cores.iter().all(|core| set.set(*core).is_ok());
    match sched_setaffinity(Pid::from_raw(0), &set) {
        Ok(()) if is_known => messages.debug(format_args!("a scanner runs on {cores:?}")),
        _ if cores.is_empty() => {}
        result => messages.warning(format_args!(
            "cannot pin a scanner to {cores:?} ({}); it will run on any core",
            result.err().map_or("no such core", |error| error.desc())
        )),
    }
    if kind == Kind::Slow {
        let nice = getpriority_process(None).unwrap_or(0).saturating_add(SLOW_NICE).min(NICE_MAX);
        if let Err(error) = setpriority_process(None, nice) {
            messages.warning(format_args!("cannot lower the priority of a scanner: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Duration;

    use super::*;
    use crate::scanner_cores::allowed_cores;

    #[test]
    fn work_costs_cpu_time_and_waiting_costs_all_that_passes() {
        let meter = Meter::start();
        let mut sum = 0_u64;
        while cpu_ns() - meter.cpu_ns < 5_000_000 {
            sum = black_box(sum.wrapping_mul(31));
        }
        assert!(meter.cost_ns() >= 5_000_000);
        assert!(meter.exceeds(1_000_000) && !meter.exceeds(u64::MAX));
        let meter = Meter::start();
        std::thread::sleep(Duration::from_millis(20));
        assert!(meter.cost_ns() >= 20_000_000 && meter.exceeds(19_000_000));
    }

    #[test]
    fn a_slow_scanner_has_a_low_priority() {
        let messages =
            Messages::new(Box::new(std::io::sink()), false, crate::config::LogLevel::Error);
        std::thread::spawn(move || {
            let cores = allowed_cores();
            place(Kind::Slow, &cores[..1], &messages);
            assert_eq!(getpriority_process(None), Ok(SLOW_NICE));
            assert_eq!(allowed_cores(), cores[..1]);
        })
        .join()
        .unwrap();
        assert!(getpriority_process(None).unwrap() < SLOW_NICE, "of that thread alone");
    }
}
