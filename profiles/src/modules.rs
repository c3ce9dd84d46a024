//! Binds the types of modules: late, after the module is loaded.
//!
//! The kernel keeps the types of its modules in a list (`btf_modules`, since v5.11), each as BTF
//! that continues the kernel's own. Without the list (no data symbols, or an older kernel), the
//! types of modules are not bound, and their users document what they do instead.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::btf::ModuleTypes;
use panoptes_decoders::layout::{Layout, View};
use panoptes_decoders::source::MemorySource;

use crate::btf::{BTF_BYTES_MAX, Btf, merged};
use crate::memory::KernelMemory;
use crate::object::read_object;
use crate::profile::Profile;
use crate::report::LayoutOrigin;

/// Maximum number of modules that are read.
const MODULES_MAX: usize = 4096;

/// Maximum size of a module's types in bytes: the largest have some hundred KB.
const MODULE_BTF_BYTES_MAX: u64 = 16 << 20;

/// Name of the module with overlayfs.
const OVERLAY: &[u8] = b"overlay";

/// Binds the layouts of overlayfs, if its module is loaded and its types are found. Reads nothing
/// if overlayfs is built in or already bound, and little if the module is not loaded.
pub fn bind(source: &mut dyn MemorySource, profile: &mut Profile) {
    if profile.layouts.ovl_inode.is_some() {
        return;
    }
    let mut memory = KernelMemory::new(source, profile.space.root, profile.space.levels);
    let Some(types) = find(&mut memory, profile, OVERLAY) else { return };
    let Some(base) = base_types(&mut memory, profile) else { return };
    let Ok(both) = merged(&base, &types) else { return };
    let Ok(btf) = Btf::parse(&both) else { return };
    let layouts = &mut profile.layouts;
    layouts.ovl_inode = Layout::bind(&btf).ok();
    // Not needed for kernels before v6.5.
    layouts.ovl_entry = Layout::bind(&btf).ok();
    layouts.ovl_path = Layout::bind(&btf).ok();
}

/// The BTF of a loaded module.
fn find(memory: &mut KernelMemory<'_>, profile: &Profile, name: &[u8]) -> Option<Vec<u8>> {
    let layouts = &profile.layouts;
    let (entry, object) = (layouts.btf_module.as_ref()?, layouts.btf.as_ref()?);
    let head = profile.symbols.btf_modules?;
    let mut at = memory.read_pointer(head).ok()?;
    for _ in 0..MODULES_MAX {
        if at == head || !at.is_plausible() {
            return None;
        }
        let start = at.minus(u64::from(entry.list.offset));
        let bytes = read_object(memory, entry, start).ok()?;
        let view = View::new(&bytes);
        at = view.pointer(entry.list);
        let Ok(bytes) = read_object(memory, object, view.pointer(entry.btf)) else { continue };
        let (types, own_name) = ModuleTypes::decode(object, &bytes);
        if own_name == name && types.bytes <= MODULE_BTF_BYTES_MAX {
            return memory.read_vec(types.data, types.bytes as usize).ok();
        }
    }
    None
}

/// The kernel's own BTF, by its symbols or where discovery found it.
fn base_types(memory: &mut KernelMemory<'_>, profile: &Profile) -> Option<Vec<u8>> {
    let symbols = &profile.symbols;
    if let (Some(start), Some(stop)) = (symbols.start_btf, symbols.stop_btf) {
        return read_whole(memory, start, stop.0.checked_sub(start.0)?);
    }
    let LayoutOrigin::Btf { at, bytes } = profile.origin else { return None };
    let offset = at.0.checked_sub(profile.space.image_physical.0)?;
    read_whole(memory, KernelVa(profile.space.image.start.wrapping_add(offset)), bytes)
}

fn read_whole(memory: &mut KernelMemory<'_>, at: KernelVa, bytes: u64) -> Option<Vec<u8>> {
    (bytes <= BTF_BYTES_MAX as u64).then(|| memory.read_vec(at, bytes as usize).ok())?
}
