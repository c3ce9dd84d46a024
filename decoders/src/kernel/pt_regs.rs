//! `struct pt_regs` (arch/x86/include/asm/ptrace.h, arch/arm64/include/asm/ptrace.h): what a thread
//! was doing when it entered the kernel, at the end of its kernel stack.

use crate::layout::View;

crate::layout! {
    /// `struct pt_regs`
    pub struct PtRegs("pt_regs") {
        /// Number of the system call on x86-64; -1 if it was an interrupt.
        orig_ax?: ["orig_ax"],
        /// Code segment on x86-64.
        cs?: ["cs"],
        /// The same number on arm64.
        syscallno?: ["syscallno"],
        /// State of the processor on arm64.
        pstate?: ["pstate"],
    }
}

/// `__USER_CS` and `__USER32_CS` (arch/x86/include/asm/segment.h).
const USER_CS: u64 = 0x33;
const USER32_CS: u64 = 0x23;
/// Bits of `pstate` (arch/arm64/include/uapi/asm/ptrace.h): the exception level, which is 0 for
/// programs, and whether it is a 32-bit one.
const PSR_LEVEL: u64 = 0xf;
const PSR_32_BIT: u64 = 0x10;

/// A system call that loads or unloads a module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ModuleCall {
    Load,
    Unload,
}

impl PtRegs {
    /// Whether a program entered the kernel, and whether it is a 32-bit one. `None` if these are
    /// no registers of a program, or the layout lacks them.
    pub fn program(&self, bytes: &[u8]) -> Option<bool> {
        let view = View::new(bytes);
        if let Some(segment) = view.optional(self.cs) {
            return match segment & 0xffff {
                USER_CS => Some(false),
                USER32_CS => Some(true),
                _ => None,
            };
        }
        let state = view.optional(self.pstate)?;
        (state & PSR_LEVEL == 0).then_some(state & PSR_32_BIT != 0)
    }

    /// The system call, if it is one that loads or unloads a module (`init_module`, `finit_module`,
    /// `delete_module`).
    pub fn module_call(&self, bytes: &[u8]) -> Option<ModuleCall> {
        let is_32_bit = self.program(bytes)?;
        let view = View::new(bytes);
        let is_x86 = self.orig_ax.is_some();
        let number = view.optional(self.orig_ax.or(self.syscallno))?;
        match (number, is_32_bit, is_x86) {
            (175 | 313, false, true)
            | (128 | 350, true, true)
            | (105 | 273, false, false)
            | (128 | 379, true, false) => Some(ModuleCall::Load),
            (176, false, true) | (129, true, _) | (106, false, false) => Some(ModuleCall::Unload),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PackedField;

    #[test]
    fn numbers_of_both_processors_are_known() {
        let field = |packed, size| Some(PackedField { offset: packed, size, packed });
        let x86 = PtRegs { orig_ax: field(0, 8), cs: field(8, 2), ..PtRegs::default() };
        let arm64 = PtRegs { syscallno: field(0, 4), pstate: field(8, 8), ..PtRegs::default() };
        let call = |layout: &PtRegs, number: u64, state: u64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            bytes[8..].copy_from_slice(&state.to_le_bytes());
            layout.module_call(&bytes)
        };
        let (load, unload) = (Some(ModuleCall::Load), Some(ModuleCall::Unload));
        assert_eq!(call(&x86, 175, 0x33), load);
        assert_eq!(call(&x86, 313, 0xabcd_0033), load, "the rest of the word is another field");
        assert_eq!(call(&x86, 176, 0x33), unload);
        assert_eq!(call(&x86, 350, 0x23), load);
        assert_eq!(call(&x86, 175, 0x10), None, "the kernel itself was interrupted");
        assert_eq!(call(&x86, u64::MAX, 0x33), None);
        assert_eq!(call(&arm64, 273, 0), load);
        assert_eq!(call(&arm64, 106, 0x8000_0000), unload);
        assert_eq!(call(&arm64, 379, 0x10), load);
        assert_eq!(call(&arm64, 105, 5), None);
        assert_eq!(call(&PtRegs::default(), 175, 0x33), None);
    }
}
