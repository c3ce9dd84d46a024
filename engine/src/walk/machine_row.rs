//! Facts about the machine itself. The module [`super::machine`] reads them.

use panoptes_decoders::kernel::vm_area_struct::Vma;

use super::container_rows::HostName;

/// Facts about the machine itself.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub hostname: HostName,
    /// Calendar time minus time since boot, in nanoseconds, if known.
    pub boot_to_real_ns: Option<i64>,
    /// The machine's calendar time in seconds since 1970, if known.
    pub calendar_seconds: Option<i64>,
    /// Calendar time in nanoseconds since 1970, as of the last tick: the clock of file modification
    /// times (`tk_xtime`, kernel/time/timekeeping.c).
    pub calendar_ns: Option<i64>,
    /// A number that every tick changes, if known. It stands still while the machine is idle or
    /// stopped.
    pub ticks: Option<u64>,
    /// Rate of the processor's clock in kHz, if known.
    pub tsc_khz: Option<u32>,
    /// The kernel's random id of this boot; zeros until something in the guest reads it.
    pub boot_id: [u8; 16],
    /// Forks since boot, if known.
    pub total_forks: Option<u64>,
    /// The vsyscall page's area, if the kernel has one. /proc shows it in every process that
    /// [`MmRow::has_gate`].
    pub gate: Option<Vma>,
    pub module_marks: ModuleMarks,
    pub bpf_marks: BpfMarks,
}

impl Machine {
    /// Nanoseconds since boot as of the last tick, if known. Setting the calendar time does not
    /// change it.
    pub fn boot_ns(&self) -> Option<i64> {
        Some(self.calendar_ns?.saturating_sub(self.boot_to_real_ns?))
    }
}

/// What shows that modules were loaded or unloaded, as far as it is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ModuleMarks {
    /// The links of the head of the list of modules.
    pub list: Option<[u64; 2]>,
    /// Number of changes of the tree of modules; it may wrap.
    pub seq: Option<u32>,
    /// The owner of the lock of both, with flags.
    pub mutex: Option<u64>,
}

/// What shows that programs, maps or links of eBPF came, as far as it is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BpfMarks {
    /// The root of the IDR of programs, of maps and of links, and the next number of each.
    pub idrs: [Option<[u64; 2]>; 3],
    /// The links of the head of the list `bpf_kallsyms`.
    pub symbols: Option<[u64; 2]>,
}
