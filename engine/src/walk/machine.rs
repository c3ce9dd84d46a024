//! Facts about the machine itself: name, clocks, counters.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::timekeeper::Timekeeper;
use panoptes_decoders::kernel::vm_area_struct::{VM_READ, Vma};
use panoptes_decoders::layout::{View, u32_at, u64_at};
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use super::bpf::{push_bpf_marks, take_bpf_marks};
use super::cgroups::CSS_SET_HEADS;
use super::containers::host_name;
use super::machine_row::Machine;
use super::modules::{push_module_marks, take_module_marks};
use super::{Budget, Kernel, ScannedMemory, Walker};

/// `VSYSCALL_ADDR` (arch/x86/include/uapi/asm/vsyscall.h).
const VSYSCALL_ADDRESS: u64 = 0xffff_ffff_ff60_0000;

/// A timekeeper begins with `tkr_mono`, the read base of its clock, which every tick updates
/// (include/linux/timekeeper_internal.h, 5.10 to 7.2).
const READ_BASE_BYTES: u32 = 48;

const CSS_SET_TABLE_BYTES: u32 = CSS_SET_HEADS as u32 * 8;

impl Walker {
    /// Reads the kernel's count of forks, and nothing else.
    pub fn read_forks<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) -> Option<u64> {
        let memory = &mut ScannedMemory::new(source, kernel, Budget::NONE);
        self.reader.clear();
        let count = self.reader.push_bytes(&kernel.space, kernel.roots.total_forks, 8)?;
        memory.run(&mut self.reader);
        self.reader.object(count as usize).map(|bytes| u64_at(bytes, 0))
    }

    /// Reads the machine's own facts in one batch. Unknown facts are left out.
    pub(super) fn read_machine(&mut self, memory: &mut ScannedMemory<'_>) {
        let kernel = memory.kernel;
        let (layouts, space, roots) = (&kernel.layouts, &kernel.space, &kernel.roots);
        let reader = &mut self.reader;
        reader.clear();
        let uts = reader.push(space, roots.init_uts_ns, &layouts.uts_namespace.packing);
        let timekeeper = reader.push(space, roots.timekeeper, &layouts.timekeeper.packing);
        let tsc_khz = reader.push_bytes(space, roots.tsc_khz, 4);
        let boot_id = reader.push_bytes(space, roots.boot_id, 16);
        let total_forks = reader.push_bytes(space, roots.total_forks, 8);
        let gate_vma = reader.push(space, roots.gate_vma, &layouts.vm_area_struct.packing);
        let vsyscall = reader.push_bytes(space, KernelVa(VSYSCALL_ADDRESS), 1);
        let read_base = reader.push_bytes(space, roots.timekeeper, READ_BASE_BYTES);
        let css_set_table = reader.push_bytes(space, roots.css_set_table, CSS_SET_TABLE_BYTES);
        let marks = push_module_marks(reader, kernel, self.modules.known.list(kernel));
        let bpf_marks = push_bpf_marks(reader, kernel);
        let queues = &self.hints.run_queues;
        let queues = if self.hints.run_queues_whole { queues.as_slice() } else { &[] };
        let rq = layouts.rq.as_ref().map(|layout| layout.packing).unwrap_or_default();
        let first_queue = reader.len();
        let pushed = queues.iter().take_while(|&&at| reader.push(space, at, &rq).is_some());
        let pushed = pushed.count();
        memory.run(reader);
        let queues = if pushed == queues.len() { queues } else { &[] };
        self.idle.take(kernel, reader, queues, first_queue);
        let object = |pushed: Option<u32>| reader.object(pushed? as usize);

        let heads = &mut self.hints.css_sets;
        heads.clear();
        if let Some(bytes) = object(css_set_table) {
            heads.extend(bytes.chunks_exact(8).map(|word| KernelVa(u64_at(word, 0))));
        }
        let module_marks = take_module_marks(reader, kernel, marks);
        let bpf_marks = take_bpf_marks(reader, kernel, bpf_marks);
        let mut machine = Machine { module_marks, bpf_marks, ..Machine::default() };
        if let Some(view) = object(uts).map(View::new) {
            machine.hostname = host_name(&layouts.uts_namespace, view);
        }
        if let Some(view) = object(timekeeper).map(View::new) {
            machine.set_clock(&layouts.timekeeper, view);
        }
        machine.tsc_khz = object(tsc_khz)
            .map(|bytes| u32_at(bytes, 0))
            .filter(|&khz| khz != 0)
            .or(kernel.counter_khz);
        if let Some(bytes) = object(boot_id) {
            machine.boot_id.copy_from_slice(bytes);
        }
        machine.total_forks = object(total_forks).map(|bytes| u64_at(bytes, 0));
        let words =
            object(read_base).map(|bytes| bytes.chunks_exact(8).map(|word| u64_at(word, 0)));
        machine.ticks = words
            .map(|words| words.fold(0, |sum: u64, word| sum.rotate_left(7) ^ word))
            .filter(|_| machine.calendar_seconds.is_some());
        machine.gate = object(gate_vma)
            .map(|bytes| Vma::decode(&layouts.vm_area_struct, bytes))
            .filter(|gate| gate.start == VSYSCALL_ADDRESS && gate.end == gate.start + PAGE_BYTES)
            // Only `vsyscall=xonly` removes read permission. `none` leaves the area as declared
            // and, unlike `emulate`, maps no page there (`map_vsyscall`, vsyscall_64.c).
            .filter(|gate| gate.flags & VM_READ == 0 || object(vsyscall).is_some());
        self.snapshot.machine = machine;
    }
}

impl Machine {
    fn set_clock(&mut self, timekeeper: &Timekeeper, view: View<'_>) {
        // A value outside of the years 2000 to 2199 is not a clock.
        self.calendar_seconds = Some(view.signed(timekeeper.xtime_sec))
            .filter(|seconds| (946_684_800..7_258_118_400).contains(seconds));
        let fraction = timekeeper.coarse_nsec.map_or_else(
            || {
                let shift = view.unsigned(timekeeper.shift).min(63);
                view.unsigned(timekeeper.xtime_nsec) >> shift
            },
            |field| view.unsigned(field),
        );
        self.calendar_ns = self
            .calendar_seconds
            .filter(|_| fraction <= 1_000_000_000)
            .map(|seconds| seconds * 1_000_000_000 + fraction as i64);
        let (real, boot) = (view.signed(timekeeper.offs_real), view.signed(timekeeper.offs_boot));
        self.boot_to_real_ns = self.calendar_seconds.and_then(|_| real.checked_sub(boot));
    }
}
