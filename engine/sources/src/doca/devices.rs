//! Devices that DOCA finds: DMA devices, and the PCI functions that each of them represents.
#![allow(unsafe_code, reason = "calls into the DOCA library, whose objects are pointers")]

use std::ffi::c_char;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use super::bindings::{self, doca_dev, doca_dev_rep, doca_devinfo, doca_devinfo_rep, doca_error};
use super::error::DocaError;
use super::handle::{Handle, create, unexpected};
use super::library::{Library, call, owned, symbol};

/// A device of the machine on which Panoptes runs.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct DocaDevice {
    /// Name as in `ibv_devinfo` (`hca_id`).
    pub name: String,
    /// PCI address, such as `0000:03:00.0`.
    pub pci_address: Option<String>,
    /// Whether its DMA engine copies memory.
    pub copies_memory: bool,
    /// The functions that it represents, or why they cannot be listed (on a host, or in NIC mode,
    /// it has none).
    pub functions: Result<Vec<Function>, DocaError>,
    /// Functions that were left out, because they are too many.
    pub left_out: usize,
}

/// Most devices, and most functions of a device, that are listed. A BlueField has two devices, and
/// at most some hundred functions.
const DEVICES_MAX: usize = 64;
const FUNCTIONS_MAX: usize = 1024;

/// A PCI function of a device, as `doca:DEVICE/VUID` names it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Function {
    /// Vendor unique id.
    pub vuid: String,
    /// PCI address on the machine with this function.
    pub pci_address: Option<String>,
    pub kind: Option<FunctionKind>,
}

/// Kind of a PCI function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FunctionKind {
    /// A physical function (PF).
    Physical,
    /// A virtual function (VF), such as a virtual machine has.
    Virtual,
    /// A subfunction (SF), such as a container has.
    Sub,
}

impl fmt::Display for FunctionKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Physical => "PF",
            Self::Virtual => "VF",
            Self::Sub => "SF",
        })
    }
}

/// All devices, in DOCA's order.
pub fn devices(library: &Arc<Library>) -> Result<Vec<DocaDevice>, DocaError> {
    let infos = device_infos(library)?;
    Ok(infos.iter().take(DEVICES_MAX).filter_map(|info| describe(library, info)).collect())
}

fn describe(library: &Arc<Library>, info: *mut doca_devinfo) -> Option<DocaDevice> {
    let mut left_out = 0;
    let functions = open_info(library, info).and_then(|device| {
        let infos = function_infos(library, &device)?;
        left_out = infos.iter().count().saturating_sub(FUNCTIONS_MAX);
        let infos = infos.iter().take(FUNCTIONS_MAX);
        Ok(infos.filter_map(|info| describe_function(library, info)).collect())
    });
    Some(DocaDevice {
        name: device_name(library, info)?,
        pci_address: text::<{ bindings::DOCA_DEVINFO_PCI_ADDR_SIZE as usize }>(|place| {
            // SAFETY: the information lives as long as its list; the place has the size that the
            // reference requires.
            call!(library, doca_devinfo_get_pci_addr_str(info, place))
        }),
        // SAFETY: as above.
        copies_memory: call!(library, doca_dma_cap_task_memcpy_is_supported(info)).is_ok(),
        functions,
        left_out,
    })
}

fn describe_function(library: &Arc<Library>, info: *mut doca_devinfo_rep) -> Option<Function> {
    let mut kind = bindings::doca_pci_func_type::MAX;
    // SAFETY: the information lives as long as its list; the place for the kind is a local
    // variable.
    let _ = call!(library, doca_devinfo_rep_get_pci_func_type(info, &raw mut kind));
    Some(Function {
        vuid: vuid(library, info)?,
        pci_address: text::<{ bindings::DOCA_DEVINFO_REP_PCI_ADDR_SIZE as usize }>(|place| {
            // SAFETY: as above; the place has the size that the reference requires.
            call!(library, doca_devinfo_rep_get_pci_addr_str(info, place))
        }),
        kind: match kind {
            bindings::DOCA_PCI_FUNC_TYPE_PF => Some(FunctionKind::Physical),
            bindings::DOCA_PCI_FUNC_TYPE_VF => Some(FunctionKind::Virtual),
            bindings::DOCA_PCI_FUNC_TYPE_SF => Some(FunctionKind::Sub),
            _ => None,
        },
    })
}

/// Opens the device with a name; an error if it does not copy memory.
pub(super) fn open_device(
    library: &Arc<Library>,
    name: &str,
) -> Result<Handle<doca_dev>, DocaError> {
    let infos = device_infos(library)?;
    let mut found = Vec::new();
    let mut mute = false;
    for info in infos.iter() {
        let Some(this) = device_name(library, info) else { continue };
        if this != name {
            found.push(this);
            continue;
        }
        // A device can be listed several times, and not every entry supports everything.
        // SAFETY: the information lives as long as its list.
        match call!(library, doca_dma_cap_task_memcpy_is_supported(info)) {
            Ok(()) => return open_info(library, info),
            Err(_) => mute = true,
        }
    }
    let wanted = name.to_owned();
    Err(if mute {
        DocaError::NoDma { device: wanted }
    } else {
        DocaError::Device { wanted, found }
    })
}

/// The longest copy of a device in bytes.
pub(super) fn copy_bytes_max(
    library: &Library,
    device: &Handle<doca_dev>,
) -> Result<u64, DocaError> {
    let as_info = symbol!(library, doca_dev_as_devinfo)?;
    // SAFETY: the device is open.
    let info = unsafe { as_info(device.get()) };
    if info.is_null() {
        return Err(unexpected(library, "doca_dev_as_devinfo"));
    }
    let mut bytes = 0;
    // SAFETY: the information lives as long as the device; the place is a local variable.
    call!(library, doca_dma_cap_task_memcpy_get_max_buf_size(info, &raw mut bytes))?;
    Ok(bytes)
}

/// Opens the representor of a device's function.
pub(super) fn open_representor(
    library: &Arc<Library>,
    device: &Handle<doca_dev>,
    name: &str,
    wanted: &str,
) -> Result<Handle<doca_dev_rep>, DocaError> {
    let infos = function_infos(library, device)?;
    for info in infos.iter() {
        if vuid(library, info).is_some_and(|vuid| vuid == wanted) {
            // SAFETY: the information lives as long as its list; the place is `Handle`'s own.
            return create!(library, doca_dev_rep_open(info), doca_dev_rep_close);
        }
    }
    let found = infos.iter().count();
    Err(DocaError::Representor { device: name.to_owned(), wanted: wanted.to_owned(), found })
}

fn open_info(
    library: &Arc<Library>,
    info: *mut doca_devinfo,
) -> Result<Handle<doca_dev>, DocaError> {
    // SAFETY: the information lives as long as its list, which outlives this call; the place is
    // `Handle`'s own.
    create!(library, doca_dev_open(info), doca_dev_close)
}

fn device_name(library: &Library, info: *mut doca_devinfo) -> Option<String> {
    const SIZE: u32 = bindings::DOCA_DEVINFO_IBDEV_NAME_SIZE;
    // SAFETY: the information lives as long as its list; the place has this size.
    text::<{ SIZE as usize }>(|place| {
        call!(library, doca_devinfo_get_ibdev_name(info, place, SIZE))
    })
}

fn vuid(library: &Library, info: *mut doca_devinfo_rep) -> Option<String> {
    const SIZE: u32 = bindings::DOCA_DEVINFO_REP_VUID_SIZE;
    // SAFETY: the information lives as long as its list; the place has this size.
    text::<{ SIZE as usize }>(|place| call!(library, doca_devinfo_rep_get_vuid(info, place, SIZE)))
}

/// The text of at most `SIZE - 1` bytes that `get` writes to a place of `SIZE` bytes. `None` if it
/// fails or the text is empty.
fn text<const SIZE: usize>(
    get: impl FnOnce(*mut c_char) -> Result<(), DocaError>,
) -> Option<String> {
    let mut place: [c_char; SIZE] = [0; SIZE];
    get(place.as_mut_ptr()).ok()?;
    place[SIZE - 1] = 0;
    // SAFETY: the array ends in a zero and lives.
    unsafe { owned(place.as_ptr()) }.filter(|text| !text.is_empty())
}

/// A list that the library made. Its elements live as long as the list, which does not outlive
/// `'a`: the library, and the device whose functions it lists.
struct DocaList<'a, T> {
    items: *mut *mut T,
    count: u32,
    destroy: unsafe extern "C" fn(*mut *mut T) -> doca_error,
    of: PhantomData<&'a ()>,
}

impl<T> DocaList<'_, T> {
    fn iter(&self) -> impl Iterator<Item = *mut T> + '_ {
        let count = if self.items.is_null() { 0 } else { self.count as usize };
        // SAFETY: the list has that many elements.
        let items = (0..count).map(|index| unsafe { *self.items.add(index) });
        items.filter(|item| !item.is_null())
    }
}

impl<T> Drop for DocaList<'_, T> {
    fn drop(&mut self) {
        if !self.items.is_null() {
            // SAFETY: the list came from the function that `destroy` belongs to and is not used
            // afterwards.
            unsafe { (self.destroy)(self.items) };
        }
    }
}

/// The library's list of devices.
fn device_infos(library: &Library) -> Result<DocaList<'_, doca_devinfo>, DocaError> {
    let destroy = symbol!(library, doca_devinfo_destroy_list)?;
    let (mut items, mut count) = (ptr::null_mut(), 0);
    // SAFETY: the places for the list and its length are local variables.
    match call!(library, doca_devinfo_create_list(&raw mut items, &raw mut count)) {
        // The library returns this also on a machine without such devices.
        Err(DocaError::Call { code: bindings::DOCA_ERROR_NOT_FOUND, .. }) => {
            items = ptr::null_mut();
        }
        listed => listed?,
    }
    Ok(DocaList { items, count, destroy, of: PhantomData })
}

/// The library's list of a device's functions.
fn function_infos<'a>(
    library: &'a Library,
    device: &'a Handle<doca_dev>,
) -> Result<DocaList<'a, doca_devinfo_rep>, DocaError> {
    let destroy = symbol!(library, doca_devinfo_rep_destroy_list)?;
    let (mut items, mut count) = (ptr::null_mut(), 0);
    let (list, length) = (&raw mut items, &raw mut count);
    // SAFETY: the device is open; the places for the list and its length are local variables.
    let create =
        |filter| call!(library, doca_devinfo_rep_create_list(device.get(), filter, list, length));
    // A device that cannot list all kinds may still list its network functions.
    create(bindings::DOCA_DEVINFO_REP_FILTER_ALL as i32)
        .or_else(|error| create(bindings::DOCA_DEVINFO_REP_FILTER_NET as i32).map_err(|_| error))?;
    Ok(DocaList { items, count, destroy, of: PhantomData })
}
