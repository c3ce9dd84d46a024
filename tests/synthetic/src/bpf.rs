//! eBPF: the machine has none. The IDRs are zeros, and the list of images is empty.

use crate::machine::Machine;

impl Machine {
    /// An empty list of the images of programs, if the kernel has one.
    pub(crate) fn boot_bpf(&mut self) {
        if let Some(list) = self.kernel.find("bpf_kallsyms") {
            self.memory.list_init(list);
        }
    }
}
