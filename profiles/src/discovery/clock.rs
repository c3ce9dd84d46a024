//! The kernel's clock: its `struct timekeeper`, and the rate of the counter that it reads.
//!
//! A kernel whose kallsyms lack data (Debian's arm64 kernels up to 6.1) does not say where the timekeeper is.
//! But what it holds agrees with itself: of the distance between the clocks it keeps both signs.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::{Members, View, c_string};
use panoptes_decoders::source::MemorySource;

use crate::discovery::candidate::Candidate;
use crate::discovery::image::ImagePieces;
use crate::memory::KernelMemory;
use crate::object::read_object;

/// Calendar times in seconds that a running machine can have: 2010 to 2150.
const CALENDAR_SECONDS: core::ops::Range<u64> = 1_262_304_000..5_680_281_600;

/// Most places in one image that may hold such a time and are looked at more closely.
const PLACES_MAX: u32 = 1 << 14;

const NS_PER_SECOND: i64 = 1_000_000_000;

/// The clock source of arm64's processors (drivers/clocksource/arm_arch_timer.c).
const ARM64_COUNTER: &[u8] = b"arch_sys_counter";

/// Where the clock has what discovery looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockFields {
    /// Of the timekeeper in what holds it.
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

/// Of `struct clocksource` (include/linux/clocksource.h), and where the timekeeper points at one.
#[derive(Clone, Copy, Debug)]
struct SourceFields {
    clock: u64,
    mult: u64,
    shift: u64,
    name: u64,
}

impl ClockFields {
    /// The timekeeper lies in the `struct tk_data` that has a name since v6.13, before that behind a sequence
    /// counter (kernel/time/timekeeping.c): four bytes and their padding or, with `PREEMPT_RT`, a pointer to
    /// its lock too (`SEQCOUNT_LOCKNAME`, include/linux/seqlock.h).
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

/// The clock's `struct timekeeper` and the seconds of calendar time that it tells, if they can be.
pub(crate) fn timekeeper<S: MemorySource + ?Sized>(
    memory: &mut KernelMemory<'_, S>,
    candidate: &mut Candidate,
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

fn seconds<S: MemorySource + ?Sized>(
    memory: &mut KernelMemory<'_, S>,
    layouts: &Layouts,
    at: KernelVa,
) -> Option<u64> {
    let bytes = read_object(memory, &layouts.timekeeper, at).ok()?;
    let seconds = View::new(&bytes).unsigned(layouts.timekeeper.xtime_sec);
    CALENDAR_SECONDS.contains(&seconds).then_some(seconds)
}

/// Finds the timekeeper in the image. Its like there is the one in which the next state is made
/// (`shadow_timekeeper`), which is uninitialised data and so comes later.
fn search<S: MemorySource + ?Sized>(
    memory: &mut KernelMemory<'_, S>,
    candidate: &Candidate,
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
            if places > PLACES_MAX {
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

/// Whether calendar time is as far from monotonic time forth (`offs_real`) as back (`wall_to_monotonic`;
/// `tk_set_wall_to_mono`, kernel/time/timekeeping.c), and both clocks read one source.
fn is_timekeeper<S: MemorySource + ?Sized>(
    memory: &mut KernelMemory<'_, S>,
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

/// The rate in kHz of arm64's counter, by how the kernel turns its ticks into nanoseconds
/// (`ns = ticks * mult >> shift`). It is the same as `arch_timer_rate` to far less than a kHz: `mult` has
/// more than 20 bits.
pub(crate) fn arm64_counter_khz<S: MemorySource + ?Sized>(
    memory: &mut KernelMemory<'_, S>,
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
