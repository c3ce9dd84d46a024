//! VMCOREINFO: the parser and every kind of line.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_profiles::vmcoreinfo::{RELEASE_BYTES_MAX, Vmcoreinfo};

fuzz_target!(|data: &[u8]| {
    let Ok(info) = Vmcoreinfo::parse(data) else { return };
    assert!((3..=RELEASE_BYTES_MAX).contains(&info.release().len()));
    assert!(info.text().is_ascii() && data.starts_with(info.text().as_bytes()));
    let _ = (info.build_id(), info.kernel_offset());
    for name in ["swapper_pg_dir", "_stext", "init_uts_ns", "kallsyms_names", "vmemmap", ""] {
        let _ = info.symbol(name);
    }
    for name in ["phys_base", "pgtable_l5_enabled", "sme_mask", "VMALLOC_START", ""] {
        let _ = info.number(name);
    }
    let _ = (info.offset("uts_namespace.name"), info.size("page"));
});
