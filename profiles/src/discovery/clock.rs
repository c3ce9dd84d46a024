//! The kernel's clock: its `struct timekeeper`, and the rate of the counter that it reads.
//!
//! If kallsyms lacks data (Debian's arm64 kernels up to 6.1), the address of the timekeeper is
//! unknown. The search recognizes it because it stores the distance between the clocks with both
//! signs.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::{Members, View, c_string};

use crate::discovery::candidate::KernelCandidate;
use crate::discovery::image::ImagePieces;
use crate::memory::KernelMemory;
use crate::object::read_object;

/// Plausible calendar times of a running machine, in seconds: 2010 to 2150.
const CALENDAR_SECONDS: core::ops::Range<u64> = 1_262_304_000..5_680_281_600;

/// Maximum number of places in an image with such a time that are checked further.
const CLOCK_PLACES_MAX: u32 = 1 << 14;

const NS_PER_SECOND: i64 = 1_000_000_000;

/// Name of the clock source of arm64 processors (drivers/clocksource/arm_arch_timer.c).
const ARM64_COUNTER: &[u8] = b"arch_sys_counter";

/// Offsets of the clock's fields that discovery reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockFields {
    /// Offset of the timekeeper in the object of the symbol.
    timekeeper: u64,
    search: Option<SearchFields>,
    source: Option<SourceFields>,
}

#[derive(Clone, Copy, Debug)]
struct SearchFields {
    wall_seconds: u64,
    wall_nanoseconds: u64,
    source: u64,
    raw_source: u64,
}

/// Offsets in `struct clocksource` (include/linux/clocksource.h); `clock` is the pointer to it in
/// the timekeeper.
#[derive(Clone, Copy, Debug)]
struct SourceFields {
    clock: u64,
    mult: u64,
    shift: u64,
    name: u64,
}

impl ClockFields {
    /// Looks the fields up. Since v6.13 the timekeeper is in a `struct tk_data`. Before, that
    /// structure had no name, and the timekeeper follows a sequence counter
    /// (kernel/time/timekeeping.c): four bytes and padding or, with `PREEMPT_RT`, also a pointer to
    /// its lock (`SEQCOUNT_LOCKNAME`, include/linux/seqlock.h).
    pub(crate) fn bind(members: &dyn Members) -> Self {
        let offset = |structure: &str, path: &str| {
            members.member(structure, path).map(|member| u64::from(member.offset))
        };
        let counter = || {
            let bytes = members.size_of("seqcount_raw_spinlock").filter(|&bytes| bytes <= 64)?;
            Some(u64::from(bytes).next_multiple_of(8))
        };
        let search = || {
            Some(SearchFields {
                wall_seconds: offset("timekeeper", "wall_to_monotonic.tv_sec")?,
                wall_nanoseconds: offset("timekeeper", "wall_to_monotonic.tv_nsec")?,
                source: offset("timekeeper", "tkr_mono.clock")?,
                raw_source: offset("timekeeper", "tkr_raw.clock")?,
            })
        };
        let source = || {
            Some(SourceFields {
                clock: offset("timekeeper", "tkr_mono.clock")?,
                mult: offset("clocksource", "mult")?,
                shift: offset("clocksource", "shift")?,
                name: offset("clocksource", "name")?,
            })
        };
        Self {
            timekeeper: offset("tk_data", "timekeeper").or_else(counter).unwrap_or(8),
            search: search(),
            source: source(),
        }
    }
}

/// The clock's `struct timekeeper` and its calendar time in seconds, if plausible.
pub(crate) fn timekeeper(
    memory: &mut KernelMemory<'_>,
    candidate: &mut KernelCandidate,
    layouts: &Layouts,
    fields: &ClockFields,
) -> Option<(KernelVa, u64)> {
    let holder = candidate.symbols.tk_core.or(candidate.symbols.timekeeper_data);
    let at = if let Some(holder) = holder {
        holder.plus(fields.timekeeper)
    } else {
        let at = search(memory, candidate, layouts, &fields.search?)?;
        candidate.symbols.tk_core = Some(at.minus(fields.timekeeper));
        at
    };
    seconds(memory, layouts, at).map(|seconds| (at, seconds))
}

fn seconds(memory: &mut KernelMemory<'_>, layouts: &Layouts, at: KernelVa) -> Option<u64> {
    let bytes = read_object(memory, &layouts.timekeeper, at).ok()?;
    let seconds = View::new(&bytes).unsigned(layouts.timekeeper.xtime_sec);
    CALENDAR_SECONDS.contains(&seconds).then_some(seconds)
}

/// Finds the timekeeper in the image. A similar one, in which the kernel prepares the next state
/// (`shadow_timekeeper`), is uninitialised data and so comes later.
fn search(
    memory: &mut KernelMemory<'_>,
    candidate: &KernelCandidate,
    layouts: &Layouts,
    fields: &SearchFields,
) -> Option<KernelVa> {
    let mut places = 0;
    let mut image = ImagePieces::new(candidate);
    while let Some((address, piece)) = image.next(memory) {
        for (index, word) in piece.as_chunks().0.iter().enumerate() {
            if !CALENDAR_SECONDS.contains(&u64::from_le_bytes(*word)) {
                continue;
            }
            places += 1;
            if places > CLOCK_PLACES_MAX {
                return None;
            }
            let time = address.plus(index as u64 * 8);
            let at = time.minus(u64::from(layouts.timekeeper.xtime_sec.offset));
            if is_timekeeper(memory, layouts, fields, at).is_some() {
                return Some(at);
            }
        }
    }
    None
}

/// Whether the distances from monotonic to calendar time (`offs_real`) and back
/// (`wall_to_monotonic`; `tk_set_wall_to_mono`, kernel/time/timekeeping.c) agree, and both clocks
/// read the same source.
fn is_timekeeper(
    memory: &mut KernelMemory<'_>,
    layouts: &Layouts,
    fields: &SearchFields,
    at: KernelVa,
) -> Option<()> {
    let bytes = read_object(memory, &layouts.timekeeper, at).ok()?;
    let forth = View::new(&bytes).signed(layouts.timekeeper.offs_real);
    let seconds = memory.read_u64(at.plus(fields.wall_seconds)).ok()? as i64;
    let nanoseconds = memory.read_u64(at.plus(fields.wall_nanoseconds)).ok()? as i64;
    let back = seconds.checked_mul(NS_PER_SECOND)?.checked_add(nanoseconds)?;
    let source = memory.read_pointer(at.plus(fields.source)).ok()?;
    let raw_source = memory.read_pointer(at.plus(fields.raw_source)).ok()?;
    let agrees = forth > 0
        && forth.checked_add(back) == Some(0)
        && source == raw_source
        && source.is_plausible();
    agrees.then_some(())
}

/// The rate of arm64's counter in kHz, from the factors by which the kernel converts its ticks to
/// nanoseconds (`ns = ticks * mult >> shift`). It differs from `arch_timer_rate` by far less than a
/// kHz: `mult` has more than 20 bits.
pub(crate) fn arm64_counter_khz(
    memory: &mut KernelMemory<'_>,
    fields: &ClockFields,
    timekeeper: KernelVa,
) -> Option<u32> {
    let fields = fields.source?;
    let source = memory.read_pointer(timekeeper.plus(fields.clock)).ok()?;
    let name = memory.read_pointer(source.plus(fields.name)).ok()?;
    let mut text = [0; ARM64_COUNTER.len() + 1];
    memory.read(name, &mut text).ok()?;
    if c_string(&text) != ARM64_COUNTER {
        return None;
    }
    let mult = u64::from(memory.read_u32(source.plus(fields.mult)).ok()?);
    let shift = memory.read_u32(source.plus(fields.shift)).ok()?;
    if mult == 0 || shift > 32 {
        return None;
    }
    let khz = ((1_000_000_u64 << shift) + mult / 2) / mult;
    u32::try_from(khz).ok().filter(|&khz| khz != 0)
}
