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

use panoptes_decoders::kernel::Layouts;
use panoptes_profiles::{Profile, Symbols};

use crate::walk::{BpfRoots, Kernel, Roots};

/// The parts of a profile that the walk needs.
pub fn kernel_of(profile: &Profile) -> Kernel {
    let symbols = &profile.symbols;
    Kernel {
        layouts: layouts_of(profile),
        space: profile.space.clone(),
        counter_khz: profile.counter_khz,
        lacks_init_task: profile.lacks_init_task(),
        symbols: symbols.clone(),
        names: profile.names,
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
            modules: symbols.modules.unwrap_or_default(),
            mod_tree: symbols.mod_tree.unwrap_or_default(),
            module_kset: symbols.module_kset.unwrap_or_default(),
            module_mutex: symbols.module_mutex.unwrap_or_default(),
            bpf: bpf_roots(symbols),
        },
    }
}

fn bpf_roots(symbols: &Symbols) -> BpfRoots {
    BpfRoots {
        programs: symbols.prog_idr.unwrap_or_default(),
        maps: symbols.map_idr.unwrap_or_default(),
        links: symbols.link_idr.unwrap_or_default(),
        symbols: symbols.bpf_kallsyms.unwrap_or_default(),
        call_base: symbols.bpf_call_base.unwrap_or_default(),
        probe_write_user: symbols.bpf_probe_write_user.unwrap_or_default(),
        override_return: symbols.bpf_override_return.unwrap_or_default(),
        send_signal: [symbols.bpf_send_signal, symbols.bpf_send_signal_thread]
            .map(Option::unwrap_or_default),
    }
}

/// The layouts of a kernel, without the files of rings where their table cannot be read.
fn layouts_of(profile: &Profile) -> Layouts {
    let mut layouts = (*profile.layouts).clone();
    let node_bytes = layouts.io_rsrc_node.map(|node| node.size);
    if let Some(ring) = &mut layouts.io_ring_ctx
        && has_ring_tables_of_two_levels(&profile.release, node_bytes)
    {
        ring.files = None;
    }
    layouts
}

/// Whether `struct io_file_table` has two levels under the names of the later table with one: in
/// Linux 5.13 and 5.14 (fs/io_uring.c). A distribution's kernel with such a number may have a newer
/// io_uring. Of those, kernels are known by their smaller `struct io_rsrc_node` (since v6.4).
fn has_ring_tables_of_two_levels(release: &str, node_bytes: Option<u32>) -> bool {
    const OLD_NODE_BYTES: u32 = 72;
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let is_old = numbers.next() == Some("5") && matches!(numbers.next(), Some("13" | "14"));
    is_old && node_bytes.is_none_or(|bytes| bytes >= OLD_NODE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_of_rings_with_two_levels_are_left_out() {
        for release in ["5.13.0-19-generic", "5.14.0", "5.14.21-150400.24-default"] {
            assert!(has_ring_tables_of_two_levels(release, Some(72)), "{release}");
            assert!(has_ring_tables_of_two_levels(release, None), "{release}");
            assert!(!has_ring_tables_of_two_levels(release, Some(48)), "{release}");
        }
        for release in ["5.10.0-32-amd64", "5.15.0-91-generic", "5.1.13", "6.13.0", "4.14.0", ""] {
            assert!(!has_ring_tables_of_two_levels(release, Some(72)), "{release}");
        }
    }
}
