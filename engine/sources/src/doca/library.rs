//! [`Library`]: NVIDIA's DOCA libraries, loaded at run time.
//!
//! Panoptes is built and runs on machines without DOCA, so it is not linked to it: the libraries
//! are searched when a `doca:` system is opened or devices are listed, and not before.
//!
//! Loaded libraries run with all rights of Panoptes. So they are searched only in the folders of
//! the dynamic linker and of NVIDIA's packages, or at the configured path
//! (`service.doca_library_path`), which the user who starts Panoptes controls anyway. Panoptes has
//! no environment variable for it. (`LD_LIBRARY_PATH` is the dynamic linker's, which ignores it in
//! a program that gains rights when it is started.)
#![allow(unsafe_code, reason = "dlopen, dlsym, and calling what they find")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, Once};

use super::bindings::{self, doca_error, doca_symbols};
use super::error::DocaError;

/// Names of the libraries in DOCA 2.5 to 3.3.
const COMMON: &str = "libdoca_common.so.2";
const DMA: &str = "libdoca_dma.so.2";
/// Needed to read a host's memory, not to list devices.
const DEVEMU: &str = "libdoca_devemu.so.2";

/// Whether the library's messages go to standard error. Each backend would write each message.
static BACKEND: Once = Once::new();

/// The loaded libraries, with every function that is used.
pub struct Library {
    pub(super) symbols: doca_symbols,
    version: Option<String>,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Library").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Library {
    /// Loads the libraries from `path`, a folder that holds them or one file with all their
    /// functions, or else from their usual folders.
    pub fn load(path: Option<&Path>) -> Result<Arc<Self>, DocaError> {
        if cfg!(target_feature = "crt-static") {
            let reason = "this program is linked statically, which can load nothing".to_owned();
            return Err(DocaError::Load { reason });
        }
        let mut loaded = LoadedLibraries::default();
        match path {
            Some(path) if path.is_file() => loaded.open(path)?,
            Some(folder) => {
                loaded.open(&folder.join(COMMON))?;
                loaded.open(&folder.join(DMA))?;
                // A missing function is reported when it is needed.
                let _ = loaded.open(&folder.join(DEVEMU));
            }
            None => {
                loaded.open_named(COMMON)?;
                loaded.open_named(DMA)?;
                let _ = loaded.open_named(DEVEMU);
            }
        }
        let symbols = loaded.symbols();
        let mut library = Self { symbols, version: None };
        // SAFETY: the function takes nothing and returns a constant text, or null.
        let version =
            |version: unsafe extern "C" fn() -> *const c_char| unsafe { owned(version()) };
        library.version = library.symbols.doca_version_runtime.and_then(version);
        match loaded.missing {
            None => Ok(Arc::new(library)),
            Some(name) => {
                Err(DocaError::Symbol { name: name.to_owned(), version: library.version })
            }
        }
    }

    /// A number that no other loaded library has: the address of a function.
    pub(super) fn number(&self) -> usize {
        self.symbols.doca_dma_create.map_or(0, |function| function as usize)
    }

    /// The version of the library, as it reports it.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Makes the library log its own messages of `level` and more severe ones to standard error.
    /// Levels are 10 to 70, as in §7.1 of the guide of DOCA Argus (`docs/compatibility.md`, "The
    /// guide"). Ignored if the library is too old for it.
    pub fn log_to_stderr(&self, level: u32) {
        let (Some(create), Some(limit)) = (
            self.symbols.doca_log_backend_create_with_fd_sdk,
            self.symbols.doca_log_level_set_global_sdk_limit,
        ) else {
            return;
        };
        BACKEND.call_once(|| {
            let mut backend = ptr::null_mut();
            // SAFETY: the descriptor is standard error's, and the place for the backend is a local
            // variable. The backend lives as long as the library, which is never unloaded.
            unsafe { create(libc::STDERR_FILENO, &raw mut backend) };
        });
        // SAFETY: the function takes a number only.
        unsafe { limit(level) };
    }

    /// `Ok` for `DOCA_SUCCESS`, else an error with the library's description.
    pub(super) fn check(&self, name: &'static str, code: doca_error) -> Result<(), DocaError> {
        if code == bindings::DOCA_SUCCESS {
            return Ok(());
        }
        let describe = self.symbols.doca_error_get_descr;
        // SAFETY: the function takes any number and returns a constant text, or null.
        let description = describe.and_then(|describe| unsafe { owned(describe(code)) });
        let description = description.unwrap_or_else(|| "no description".to_owned());
        Err(DocaError::Call { name, code, description })
    }

    /// The error for a function that this library lacks; [`Library::load`] has checked the
    /// mandatory ones.
    pub(super) fn lacks(&self, name: &'static str) -> DocaError {
        DocaError::Symbol { name: name.to_owned(), version: self.version.clone() }
    }
}

/// A copy of a C text on one line.
///
/// # Safety
/// The pointer is null, or to a text that ends in a zero and lives during this call.
pub(super) unsafe fn owned(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// Calls a function of the library; its `doca_error_t` becomes a `Result`.
macro_rules! call {
    ($library:expr, $name:ident($($argument:expr),* $(,)?)) => {
        match $library.symbols.$name {
            Some(function) => {
                // SAFETY: the block around this macro says why these arguments are right.
                $library.check(stringify!($name), unsafe { function($($argument),*) })
            }
            None => Err($library.lacks(stringify!($name))),
        }
    };
}
pub(super) use call;

/// A function of the library, or an error if the library lacks it.
macro_rules! symbol {
    ($library:expr, $name:ident) => {
        $library.symbols.$name.ok_or_else(|| $library.lacks(stringify!($name)))
    };
}
pub(super) use symbol;

/// The loaded libraries. They are never unloaded: they start threads and register exit handlers,
/// whose code must stay.
#[derive(Default)]
struct LoadedLibraries {
    handles: Vec<*mut c_void>,
    /// The first mandatory function that is missing.
    missing: Option<&'static str>,
}

impl LoadedLibraries {
    /// Opens a library by name: first in the dynamic linker's folders, then in those of NVIDIA's
    /// packages.
    fn open_named(&mut self, name: &str) -> Result<(), DocaError> {
        let usual = [DocaError::usual_folder(), PathBuf::from("/opt/mellanox/doca/lib64")];
        let first = self.open(Path::new(name));
        if first.is_ok() || usual.iter().any(|folder| self.open(&folder.join(name)).is_ok()) {
            return Ok(());
        }
        first
    }

    fn open(&mut self, path: &Path) -> Result<(), DocaError> {
        let reason = |reason: String| DocaError::Load { reason };
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| reason("its path holds a NUL character".to_owned()))?;
        // SAFETY: the name ends in a zero. Loading a library runs its code, as intended.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: dlerror returns null, or a text that lives until the next call of this family
            // by this thread.
            let message = unsafe { owned(libc::dlerror()) };
            return Err(reason(message.unwrap_or_else(|| path.display().to_string())));
        }
        self.handles.push(handle);
        Ok(())
    }

    /// The address of a function; its name ends with a zero. Null if no library has it.
    fn find(&self, name: &str) -> *mut c_void {
        let Ok(name) = CStr::from_bytes_with_nul(name.as_bytes()) else { return ptr::null_mut() };
        let found = self.handles.iter().map(|handle| {
            // SAFETY: the handle came from dlopen and was never closed; the name ends in a zero.
            unsafe { libc::dlsym(*handle, name.as_ptr()) }
        });
        found.into_iter().find(|address| !address.is_null()).unwrap_or(ptr::null_mut())
    }

    /// Finds every function. Those under `may_lack` were added after DOCA 2.5, were removed, or are
    /// in a library that is not always needed.
    fn symbols(&mut self) -> doca_symbols {
        macro_rules! find_all {
            (must_have: $($must:ident)*; may_lack: $($may:ident)*;) => {
                doca_symbols {
                    $($must: {
                        let address = self.find(concat!(stringify!($must), "\0"));
                        if address.is_null() && self.missing.is_none() {
                            self.missing = Some(stringify!($must));
                        }
                        // SAFETY: the function of this name has the type in DOCA's reference.
                        unsafe { function(address) }
                    },)*
                    $($may: {
                        let address = self.find(concat!(stringify!($may), "\0"));
                        // SAFETY: as above.
                        unsafe { function(address) }
                    },)*
                }
            };
        }
        find_all! {
            must_have:
                doca_error_get_descr
                doca_devinfo_create_list doca_devinfo_destroy_list doca_devinfo_get_ibdev_name
                doca_devinfo_get_pci_addr_str doca_dev_open doca_dev_close doca_dev_as_devinfo
                doca_devinfo_rep_create_list doca_devinfo_rep_destroy_list doca_devinfo_rep_get_vuid
                doca_devinfo_rep_get_pci_addr_str doca_devinfo_rep_get_pci_func_type
                doca_dev_rep_open doca_dev_rep_close
                doca_mmap_create doca_mmap_destroy doca_mmap_start doca_mmap_add_dev
                doca_mmap_set_memrange doca_mmap_set_permissions doca_mmap_set_max_num_devices
                doca_buf_inventory_create doca_buf_inventory_destroy doca_buf_inventory_start
                doca_buf_inventory_buf_get_by_args doca_buf_dec_refcount doca_buf_get_data_len
                doca_buf_reset_data_len
                doca_ctx_start doca_ctx_stop doca_ctx_set_user_data doca_ctx_get_state
                doca_pe_create doca_pe_destroy doca_pe_connect_ctx doca_pe_progress
                doca_task_submit doca_task_free doca_task_get_status
                doca_dma_create doca_dma_destroy doca_dma_as_ctx
                doca_dma_cap_task_memcpy_is_supported doca_dma_cap_task_memcpy_get_max_buf_size
                doca_dma_cap_get_max_num_tasks doca_dma_task_memcpy_set_conf
                doca_dma_task_memcpy_alloc_init doca_dma_task_memcpy_as_task
                doca_dma_task_memcpy_set_src;
            may_lack:
                doca_version_runtime doca_error_get_name
                doca_log_backend_create_with_fd_sdk doca_log_level_set_global_sdk_limit
                doca_devemu_pci_type_create doca_devemu_pci_type_destroy
                doca_devemu_pci_type_set_dev doca_devemu_pci_type_start doca_devemu_pci_type_stop
                doca_devemu_pci_dev_create doca_devemu_pci_dev_destroy doca_devemu_pci_dev_as_ctx
                doca_devemu_pci_mmap_create doca_devemu_pci_dev_as_ep
                doca_devemu_pci_ep_mmap_create;
        }
    }
}

/// Converts the address of a function to a pointer; `None` for null.
///
/// # Safety
/// `F` is the type of a pointer to a function, and the address is null or that of such a function.
unsafe fn function<F: Copy>(address: *mut c_void) -> Option<F> {
    const { assert!(size_of::<Option<F>>() == size_of::<*mut c_void>()) };
    // SAFETY: such an `Option` has the layout of a pointer to a function that may be null.
    unsafe { mem::transmute_copy::<*mut c_void, Option<F>>(&address) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_reported_in_one_line() {
        for path in ["/nonexistent/doca", "/dev/null"] {
            let message = Library::load(Some(Path::new(path))).unwrap_err().to_string();
            assert!(message.contains("install DOCA 2.5"), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn the_first_missing_function_of_another_library_is_reported() {
        // Any shared object will do; the dynamic linker finds this one by name.
        let mut loaded = LoadedLibraries::default();
        loaded.open(Path::new("libc.so.6")).unwrap();
        loaded.symbols();
        assert_eq!(loaded.missing, Some("doca_error_get_descr"));
    }
}
