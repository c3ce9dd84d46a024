//! The way to the modules of a kernel whose symbols are unknown: files, file systems and network
//! devices name the modules that they belong to, and every module leads to the list.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::module::Module;
use panoptes_decoders::layout::{Layout, PackedField, View, u64_at};
use panoptes_tables::Insertion;

use super::memory::visit;
use super::module_rows::MODULES_MAX;
use super::modules::module_layouts;
use super::{ScannedMemory, WalkScratch, Walker, fetch};

/// Number of scans after which a scan looks for the way again.
const SEEDS_EVERY_SCANS: u32 = 128;
/// Maximum number of files and of file systems that are asked for their modules.
const ASKED_MAX: usize = 1024;
/// Maximum number of network devices that are. Each costs some rounds.
const DEVICES_MAX: usize = 16;
/// Maximum number of modules from which the list is looked for.
const SEEDS_MAX: usize = 16;
/// Number of links that are followed from all of them together. Each costs a round.
const SEED_STEPS_MAX: usize = 2 * MODULES_MAX;

impl Walker {
    /// The head of the list of modules; null if neither a symbol nor a module leads to it.
    pub(super) fn find_module_list(&mut self, memory: &mut ScannedMemory<'_>) -> KernelVa {
        let list = self.modules.known.list(memory.kernel);
        if !list.is_null() {
            return list;
        }
        let age = self.modules.known.seeds_age;
        self.modules.known.seeds_age = (age + 1) % SEEDS_EVERY_SCANS;
        if age == 0 {
            self.list_seeds(memory);
            self.modules.known.list = self.list_of_seeds(memory);
        }
        self.modules.known.list
    }

    /// Lists the modules that files, file systems and network devices belong to.
    fn list_seeds(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        self.visited.clear();
        self.modules.wanted.clear();
        self.list_owners_of_devices(memory);
        if let Some(owner) = layouts.file_system_type.owner {
            self.scratch.addresses.clear();
            let kinds = self.snapshot.super_blocks.iter().map(|row| row.filesystem.kind);
            self.scratch.addresses.extend(kinds.take(ASKED_MAX));
            self.list_owners(memory, &layouts.file_system_type, owner);
        }
        if let Some(layout) = &layouts.file_operations {
            self.scratch.addresses.clear();
            let operations = self.snapshot.files.iter().map(|row| row.open.op);
            self.scratch.addresses.extend(operations.take(ASKED_MAX));
            self.list_owners(memory, layout, layout.owner);
        }
    }

    /// Lists the owners of the listed structures.
    fn list_owners(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        layout: &impl Layout,
        owner: PackedField,
    ) {
        let (seeds, visited) = (&mut self.modules.wanted, &mut self.visited);
        let WalkScratch { addresses, .. } = &self.scratch;
        fetch(&mut self.reader, memory, layout.packing(), addresses, |_, bytes| {
            let module = bytes.map_or(KernelVa::NULL, |bytes| View::new(bytes).pointer(owner));
            if module.is_plausible()
                && seeds.len() < SEEDS_MAX
                && visited.insert(module.0, 0) == Insertion::New
            {
                seeds.push(module);
            }
        });
    }

    /// Lists the modules of the drivers of the machine's own network devices.
    fn list_owners_of_devices(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let Some(driver) = &layouts.device_driver else { return };
        let Some(net) = self.snapshot.nets.iter().next() else { return };
        let mut link = net.first_device;
        let end = net.address.plus(layouts.net.dev_base_head.offset.into());
        let list = &layouts.net_device;
        self.scratch.addresses.clear();
        for _ in 0..DEVICES_MAX {
            if link == end || link.is_null() {
                break;
            }
            let device = link.minus(list.dev_list.offset.into());
            let Some(view) = memory.read_one(&mut self.reader, device, &list.packing) else {
                break;
            };
            link = KernelVa(view.u64_at(list.dev_list, 0));
            if let Some(driver) = self.driver_of(memory, device) {
                self.scratch.addresses.push(driver);
            }
        }
        self.list_owners(memory, driver, driver.owner);
    }

    /// The `struct device_driver` of a network device, if it has any.
    fn driver_of(&mut self, memory: &mut ScannedMemory<'_>, device: KernelVa) -> Option<KernelVa> {
        let layouts = &memory.kernel.layouts;
        let (of_net, of_device) =
            layouts.net_device_parent.as_ref().zip(layouts.device.as_ref())?;
        let view = memory.read_one(&mut self.reader, device, &of_net.packing)?;
        let parent = view.pointer(of_net.parent?);
        let view = memory.read_one(&mut self.reader, parent, &of_device.packing)?;
        Some(view.pointer(of_device.driver)).filter(|driver| driver.is_plausible())
    }

    /// The list that the first good one of the listed modules is in; null if there is none.
    fn list_of_seeds(&mut self, memory: &mut ScannedMemory<'_>) -> KernelVa {
        let mut steps = SEED_STEPS_MAX;
        for at in 0..self.modules.wanted.len() {
            let seed = self.modules.wanted[at];
            if let Some(list) = self.list_of_seed(memory, seed, &mut steps) {
                return list;
            }
        }
        KernelVa::NULL
    }

    /// The head of the list that a module is in: the only link of it in the kernel's image. Takes
    /// at most so many steps, and lowers their number.
    fn list_of_seed(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        seed: KernelVa,
        steps: &mut usize,
    ) -> Option<KernelVa> {
        let layouts = module_layouts(&memory.kernel.layouts)?;
        self.reader.clear();
        self.reader.push(&memory.kernel.space, seed, &layouts.module.packing);
        memory.run(&mut self.reader);
        let module = self.reader.object(0).and_then(|bytes| Module::decode(&layouts, bytes))?;
        let own = seed.plus(layouts.module.list.offset.into());
        let bytes = memory.read_bytes(&mut self.reader, module.previous, 8)?;
        if u64_at(bytes, 0) != own.0 {
            return None;
        }
        self.visited.clear();
        let mut link = own;
        while let Some(left) = steps.checked_sub(1) {
            *steps = left;
            if memory.kernel.space.image.contains(&link.0) {
                return Some(link);
            }
            visit(&mut self.visited, link).ok()?;
            link = KernelVa(u64_at(memory.read_bytes(&mut self.reader, link, 8)?, 0));
        }
        None
    }
}
