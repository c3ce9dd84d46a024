//! System calls that threads are in: what an entry to the kernel leaves at the end of a stack.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::Members as _;

use crate::machine::Machine;

/// `THREAD_SIZE` (arch/x86/include/asm/page_64_types.h).
const STACK_BYTES: u32 = 16 << 10;
/// `__USER_CS` (arch/x86/include/asm/segment.h).
const USER_CODE: u64 = 0x33;
/// Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl).
const CLOCK_NANOSLEEP: u64 = 230;
const DELETE_MODULE: u64 = 176;
const FINIT_MODULE: u64 = 313;

impl Machine {
    /// Lets a process sleep in a system call. Its descendants share its stack: only what the entry
    /// to the kernel left there is read.
    pub(crate) fn boot_calls(&mut self, pid: u32) {
        if let (Some(stack), Some(field)) =
            (self.new_call_stack(CLOCK_NANOSLEEP), self.kernel.field("task_struct", "stack"))
        {
            let task = self.process(pid).task;
            self.memory.point(task, field, stack);
        }
    }

    /// A stack with `struct pt_regs` at its end, if the profile has that.
    fn new_call_stack(&mut self, call: u64) -> Option<KernelVa> {
        let number = self.kernel.field("pt_regs", "orig_ax")?;
        let code = self.kernel.field("pt_regs", "cs")?;
        let bytes = self.kernel.profile.members().size_of("pt_regs")?;
        let stack = self.memory.allocate(STACK_BYTES);
        let registers = stack.plus(u64::from(STACK_BYTES - bytes));
        self.memory.put(registers, number, call);
        self.memory.put(registers, code, USER_CODE);
        Some(stack)
    }

    /// Does something in a system call of a thread.
    fn in_call<T>(&mut self, tid: u32, call: u64, act: impl FnOnce(&mut Self) -> T) -> T {
        let task = self.thread(tid).task;
        let field = self.kernel.field("task_struct", "stack");
        let stack = self.new_call_stack(call);
        let before = field.map_or(0, |field| self.memory.get(task, field));
        if let Some(stack) = stack {
            self.memory.put_optional(task, field, stack.0);
        }
        let done = act(self);
        if let Some(stack) = stack {
            self.memory.put_optional(task, field, before);
            self.memory.release(stack, STACK_BYTES);
        }
        done
    }

    /// Loads a module in the system call of a thread; see [`Self::load_module`].
    pub fn load_module_as(&mut self, tid: u32, name: &str, bytes: u32) -> KernelVa {
        self.in_call(tid, FINIT_MODULE, |machine| machine.load_module(name, bytes))
    }

    /// Unloads a module in the system call of a thread; see [`Self::unload_module`].
    pub fn unload_module_as(&mut self, tid: u32, name: &str) {
        self.in_call(tid, DELETE_MODULE, |machine| machine.unload_module(name));
    }
}
