//! `panoptes scan --only integrity`: the checks of a kernel's code, once.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use panoptes_decoders::source::MemorySource;
use panoptes_engine::kernel_code::{CodeBuffers, CodeNames, KernelCode, symbol_at};
use panoptes_engine::policy::lines::LineWriter;
use panoptes_engine::time::Monotonic;
use panoptes_engine::walk::{Kernel, MemoryCopyMode, Scope, Snapshot, Walker};

/// Number of rounds after which a live machine is not asked again.
const ROUNDS_MAX: u32 = 4;
/// Time from one round to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// The checks of a machine, and the number of rounds that confirm a violation.
pub(super) struct Integrity {
    pub(super) code: KernelCode,
    pub(super) rounds_to_confirm: u32,
}

/// Checks the kernel's code. A copy is checked once. On a live machine, a second round must see
/// what the first one saw.
pub(super) fn check<S: MemorySource>(
    walker: &mut Walker,
    source: &mut S,
    kernel: &Kernel,
    (scope, copied): (Scope, MemoryCopyMode),
) -> Integrity {
    let begin = Instant::now();
    let (mut code, mut buffers) = (KernelCode::new(crate::random::hash_key()), CodeBuffers::new());
    let rounds_to_confirm = if copied == MemoryCopyMode::No { 2 } else { 1 };
    for round in 1..=ROUNDS_MAX {
        let now = Monotonic::from_ns(begin.elapsed().as_nanos() as i64);
        code.check_at_once(&mut buffers, source, (walker.snapshot(), kernel), now);
        let has_seen = code.confirmed(1).next().is_some();
        let has_confirmed = code.confirmed(rounds_to_confirm).count() == code.confirmed(1).count();
        if !has_seen || has_confirmed || round == ROUNDS_MAX {
            break;
        }
        thread::sleep(PAUSE);
        walker.forget();
        // Without a scan, the next round has the modules of the one before.
        let _ = walker.scan(source, kernel, scope);
    }
    Integrity { code, rounds_to_confirm }
}

impl Integrity {
    /// Prints a line for each check, and for each violation.
    pub(super) fn print<S: MemorySource>(
        &self,
        lines: &mut LineWriter,
        (snapshot, kernel): (&Snapshot, &Kernel),
        source: &mut S,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let Self { code, rounds_to_confirm } = self;
        let confirmed: Vec<_> = code.confirmed(*rounds_to_confirm).collect();
        let names = &mut |violation: &_| {
            let mut symbol = |at| symbol_at(source, kernel, at);
            CodeNames::of(violation, &snapshot.modules, &mut symbol)
        };
        let violations = confirmed.iter().copied();
        let written = lines
            .write_integrity(code.last_round(), violations, names, &mut |line| out.write_all(line));
        written.map(drop)
    }
}
