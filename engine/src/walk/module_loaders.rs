//! Threads that load or unload modules, known by the system call that they are in.
//!
//! A thread that enters the kernel leaves its registers at the end of its kernel stack. They stay
//! there until it enters the kernel again, so a thread whose call has just ended counts, too.
//!
//! The sizes of stacks differ between kernels, and nothing in memory states them. So the first read
//! tries one after another, until more than half of the threads have registers of a program. A few
//! never have any: workers of io_uring and of virtual machines' devices, which belong to programs.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::pt_regs::{ModuleCall, PtRegs};
use panoptes_decoders::kernel::task_struct::PF_KTHREAD;
use panoptes_decoders::layout::View;

use super::module_rows::ModuleLoader;
use super::{ScannedMemory, WalkScratch, Walker, fetch};

/// Maximum number of threads that are asked.
pub(super) const THREADS_ASKED_MAX: usize = 4096;
/// Number of threads with which the size of stacks is tried.
const THREADS_TRIED: usize = 64;
/// Ends of the registers, in bytes from the first one of the stack: `THREAD_SIZE` of x86-64 and
/// arm64, with KASAN, and with pages of 64 KiB; with `CONFIG_X86_FRED`, 16 bytes follow
/// (`TOP_OF_KERNEL_STACK_PADDING`, arch/x86/include/asm/thread_info.h).
const STACK_ENDS: [u32; 5] = [16 << 10, (16 << 10) - 16, 32 << 10, (32 << 10) - 16, 64 << 10];

impl Walker {
    /// Finds the threads that are in a system call that loads or unloads a module.
    pub(super) fn find_module_loaders(&mut self, memory: &mut ScannedMemory<'_>) {
        let Some(layout) = &memory.kernel.layouts.pt_regs else { return };
        self.list_stacks(memory);
        let Some(end) = self.end_of_stacks(memory, layout) else { return };
        self.list_registers(layout, end, THREADS_ASKED_MAX);
        let (threads, users) = (&self.snapshot.threads, &mut self.snapshot.modules.users);
        let (asked, registers) = (&self.modules.asked, &self.scratch.addresses);
        fetch(&mut self.reader, memory, &layout.packing, registers, |index, bytes| {
            let Some(call) = bytes.and_then(|bytes| layout.module_call(bytes)) else { return };
            let Some(thread) = threads.at(asked[index]) else { return };
            let Some(process) = thread.process else { return };
            let is_unload = call == ModuleCall::Unload;
            // One more than there is room for changes nothing: who did it is in doubt.
            let loader = ModuleLoader { process, thread_id: thread.task.pid, is_unload };
            let _ = users.try_push(loader);
        });
    }

    /// Lists threads of programs, and their stacks.
    fn list_stacks(&mut self, memory: &mut ScannedMemory<'_>) {
        let layout = &memory.kernel.layouts.task_stack;
        let WalkScratch { addresses, more: stacks, .. } = &mut self.scratch;
        let asked = &mut self.modules.asked;
        asked.clear();
        addresses.clear();
        stacks.clear();
        let Some(stack) = layout.stack else { return };
        for (index, thread) in self.snapshot.threads.indexed() {
            let task = &thread.task;
            let is_program = !task.mm.is_null() && task.flags & PF_KTHREAD == 0;
            if is_program && thread.process.is_some() && asked.len() < THREADS_ASKED_MAX {
                asked.push(index);
                addresses.push(task.address);
            }
        }
        fetch(&mut self.reader, memory, &layout.packing, addresses, |_, bytes| {
            let stack = bytes.map(|bytes| View::new(bytes).pointer(stack));
            stacks.push(stack.unwrap_or_default());
        });
    }

    /// Lists the addresses of the registers at the ends of the first stacks.
    fn list_registers(&mut self, layout: &PtRegs, end: u32, count: usize) {
        let WalkScratch { addresses, more: stacks, .. } = &mut self.scratch;
        addresses.clear();
        let before = u64::from(end.saturating_sub(layout.size));
        let registers = |stack: &KernelVa| {
            if stack.is_null() { KernelVa::NULL } else { stack.plus(before) }
        };
        addresses.extend(stacks.iter().take(count).map(registers));
    }

    /// The end of the registers in each stack, if it is known or can be found.
    fn end_of_stacks(&mut self, memory: &mut ScannedMemory<'_>, layout: &PtRegs) -> Option<u32> {
        if self.modules.known.stack_end.is_some() {
            return self.modules.known.stack_end;
        }
        for end in STACK_ENDS {
            self.list_registers(layout, end, THREADS_TRIED);
            let (mut programs, mut others) = (0, 0);
            let registers = &self.scratch.addresses;
            fetch(&mut self.reader, memory, &layout.packing, registers, |_, bytes| {
                let Some(bytes) = bytes else { return };
                let is_program = layout.program(bytes).is_some();
                *(if is_program { &mut programs } else { &mut others }) += 1;
            });
            if programs > others {
                self.modules.known.stack_end = Some(end);
                break;
            }
        }
        self.modules.known.stack_end
    }
}
