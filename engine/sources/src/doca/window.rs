//! [`Window`]: a map of the host's memory for the DMA engine. **This is the least certain step.**
//!
//! Documented: `doca_devemu_pci_mmap_create` (DOCA 2.7 to 3.2) and `doca_devemu_pci_ep_mmap_create`
//! (3.3) make a memory map over "the domain that hosts" an emulated PCI function. They need no
//! program on the host and no export from there. The addresses are I/O addresses, as the function
//! itself would use them on the bus. With the IOMMU in passthrough mode (`iommu=pt`, §5 of the
//! guide of DOCA Argus) they are the host's physical addresses.
//!
//! Assumed: the same works for the representor of a network function, a PF or VF. According to the
//! reference, `doca_devemu_pci_dev_create` refuses a representor whose type is not the emulated
//! type. No public function of DOCA is documented to reach a host's memory through a network
//! function. App Shield does so by means that are not public; its input is such a representor and
//! the host's memory regions (`doca_apsh_sys_dev_set`, `doca_apsh_sys_mem_region_set`). If the
//! library refuses, opening fails with the library's own description.
//!
//! Everything that depends on this is in this file. Another way to map the host's memory belongs
//! here.
#![allow(unsafe_code, reason = "calls into the DOCA library, whose objects are pointers")]

use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use super::bindings::{
    self, doca_dev, doca_dev_rep, doca_devemu_pci_dev, doca_devemu_pci_type, doca_mmap, doca_pe,
};
use super::error::DocaError;
use super::handle::{Context, Handle, create, unexpected};
use super::library::{Library, call, symbol};

/// The host's memory regions, each with its map. The fields are in the order in which they must be
/// dropped.
#[derive(Debug)]
pub(super) struct Window {
    maps: Vec<Handle<doca_mmap>>,
    /// The first address of the first map.
    start: u64,
    _started: EmulatedFunction,
    function: Handle<doca_devemu_pci_dev>,
    _type: EmulatedFunctionType,
    _representor: Handle<doca_dev_rep>,
}

impl Window {
    /// Maps `regions` of the memory that the representor's function can reach, for reading by
    /// `device`.
    pub(super) fn new(
        library: &Arc<Library>,
        device: &Handle<doca_dev>,
        representor: Handle<doca_dev_rep>,
        engine: &Handle<doca_pe>,
        regions: &[Range<u64>],
    ) -> Result<Self, DocaError> {
        let kind = EmulatedFunctionType::new(library, device)?;
        // SAFETY: the type is started, the representor open, and all of them are dropped after the
        // function.
        let function = create!(
            library,
            doca_devemu_pci_dev_create(kind.0.get(), representor.get(), engine.get()),
            doca_devemu_pci_dev_destroy
        )?;
        let as_context = symbol!(library, doca_devemu_pci_dev_as_ctx)?;
        // SAFETY: the function lives.
        let context = unsafe { as_context(function.get()) };
        let context = Context::new(library, "doca_devemu_pci_dev_as_ctx", context, engine)?;
        context.start()?;
        let started = EmulatedFunction(context);
        let mut window = Self {
            maps: Vec::new(),
            start: 0,
            _started: started,
            function,
            _type: kind,
            _representor: representor,
        };
        window.set(library, device, regions)?;
        Ok(window)
    }

    /// Replaces the mapped regions. No buffer may point into the previous ones.
    pub(super) fn set(
        &mut self,
        library: &Arc<Library>,
        device: &Handle<doca_dev>,
        regions: &[Range<u64>],
    ) -> Result<(), DocaError> {
        self.maps.clear();
        self.start = regions.first().map_or(0, |region| region.start);
        for region in regions {
            let map = host_map(library, &self.function)?;
            let start = ptr::without_provenance_mut(region.start as usize);
            let bytes = region.end - region.start;
            let read_only = bindings::DOCA_ACCESS_FLAG_LOCAL_READ_ONLY;
            // SAFETY: the map is new and the device open. The range has addresses of the host,
            // which nothing here follows: only the device does, and only to read.
            call!(library, doca_mmap_set_max_num_devices(map.get(), 1))?;
            // SAFETY: as above.
            call!(library, doca_mmap_add_dev(map.get(), device.get()))?;
            // SAFETY: as above.
            call!(library, doca_mmap_set_permissions(map.get(), read_only))?;
            // SAFETY: as above.
            call!(library, doca_mmap_set_memrange(map.get(), start, bytes))?;
            // SAFETY: as above.
            call!(library, doca_mmap_start(map.get()))?;
            self.maps.push(map);
        }
        Ok(())
    }

    /// The map of the region with this index.
    pub(super) fn map(&self, index: usize) -> Option<*mut doca_mmap> {
        self.maps.get(index).map(Handle::get)
    }

    /// A readable address, and the map that has it.
    pub(super) fn first(&self) -> Option<(*mut doca_mmap, u64)> {
        Some((self.map(0)?, self.start))
    }
}

/// A memory map over the domain that hosts the function.
fn host_map(
    library: &Arc<Library>,
    function: &Handle<doca_devemu_pci_dev>,
) -> Result<Handle<doca_mmap>, DocaError> {
    let Some(as_endpoint) = library.symbols.doca_devemu_pci_dev_as_ep else {
        // SAFETY: the function is started and outlives its maps; the place is `Handle`'s own.
        return create!(library, doca_devemu_pci_mmap_create(function.get()), doca_mmap_destroy);
    };
    // SAFETY: the function lives.
    let endpoint = unsafe { as_endpoint(function.get()) };
    if endpoint.is_null() {
        return Err(unexpected(library, "doca_devemu_pci_dev_as_ep"));
    }
    // SAFETY: as above; the endpoint is the same object as the function.
    create!(library, doca_devemu_pci_ep_mmap_create(endpoint), doca_mmap_destroy)
}

/// A started emulated function; stopped on drop.
#[derive(Debug)]
struct EmulatedFunction(Context);

impl Drop for EmulatedFunction {
    fn drop(&mut self) {
        for _ in 0..STOP_POLLS_MAX {
            if self.0.stop() {
                break;
            }
            self.0.progress();
        }
    }
}

/// Number of times that a function is polled until it has stopped.
const STOP_POLLS_MAX: u32 = 1000;

/// A started type of emulated functions.
#[derive(Debug)]
struct EmulatedFunctionType(Handle<doca_devemu_pci_type>);

impl EmulatedFunctionType {
    fn new(library: &Arc<Library>, device: &Handle<doca_dev>) -> Result<Self, DocaError> {
        let name = c"Panoptes".as_ptr();
        // SAFETY: the name ends in a zero and is constant; the place is `Handle`'s own.
        let kind =
            create!(library, doca_devemu_pci_type_create(name), doca_devemu_pci_type_destroy)?;
        // SAFETY: the type is new; the device is open and is dropped after it.
        call!(library, doca_devemu_pci_type_set_dev(kind.get(), device.get()))?;
        // SAFETY: as above.
        call!(library, doca_devemu_pci_type_start(kind.get()))?;
        Ok(Self(kind))
    }
}

impl Drop for EmulatedFunctionType {
    fn drop(&mut self) {
        let library = self.0.library.clone();
        // SAFETY: the type was started, and its functions were destroyed.
        let _ = call!(library, doca_devemu_pci_type_stop(self.0.get()));
    }
}
