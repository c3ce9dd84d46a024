//! One machine to be watched: from its memory to a kernel that can be walked.
//!
//! [`attach()`] joins the steps: choosing the layout of physical memory, finding the kernel in it,
//! and binding the types of its modules. Every command that scans attaches with it, so that all of
//! them read a machine in the same way.
//!
//! Not here: opening memory (`panoptes-sources`), finding a kernel in one layout
//! (`panoptes-profiles`) and walking it ([`crate::walk`]).
//!
//! Start reading at [`attach()`].

mod attach;
mod stop;

pub use attach::{AttachError, attach, find_kernel};
pub use stop::Stop;

use panoptes_profiles::Profile;

use crate::walk::{Kernel, Roots};

/// The parts of a profile that the walk needs.
pub fn kernel_of(profile: &Profile) -> Kernel {
    let symbols = &profile.symbols;
    Kernel {
        layouts: profile.layouts.clone(),
        space: profile.space.clone(),
        counter_khz: profile.counter_khz,
        lacks_init_task: profile.lacks_init_task(),
        roots: Roots {
            init_task: symbols.init_task.unwrap_or_default(),
            init_pid_ns: symbols.init_pid_ns.unwrap_or_default(),
            init_net: symbols.init_net.unwrap_or_default(),
            init_uts_ns: symbols.init_uts_ns.unwrap_or_default(),
            timekeeper: profile.timekeeper.unwrap_or_default(),
            tsc_khz: symbols.tsc_khz.unwrap_or_default(),
            boot_id: symbols.sysctl_bootid.unwrap_or_default(),
            total_forks: symbols.total_forks.unwrap_or_default(),
            css_set_table: symbols.css_set_table.unwrap_or_default(),
            udp_table: symbols.udp_table.unwrap_or_default(),
            nf_nat_hook: symbols.nf_nat_hook.unwrap_or_default(),
            gate_vma: symbols.gate_vma.unwrap_or_default(),
        },
    }
}
