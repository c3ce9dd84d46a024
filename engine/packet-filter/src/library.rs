//! [`Library`]: libpcap, loaded at run time.
//!
//! Panoptes runs on machines without libpcap, so it is not linked to it. Loaded libraries run with
//! all rights of Panoptes. So libpcap is searched only in the folders of the dynamic linker, and
//! Panoptes has no option and no environment variable for it.
//!
//! The functions and types are those of pcap(3PCAP) and `pcap/bpf.h`, which libpcap has had since
//! version 0.8.
#![allow(unsafe_code, reason = "dlopen, dlsym, and calling what they find")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{mem, ptr, slice};

use libc::FILE;
use panoptes_decoders::packet::program::Instruction;

use crate::error::FilterError;
use crate::options::{FilterOptions, PacketOrigin};

/// The names of the library: in Debian and what derives from it, and elsewhere.
const NAMES: [&CStr; 2] = [c"libpcap.so.0.8", c"libpcap.so.1"];

/// The library, or why there is none. It is never unloaded.
static LIBRARY: OnceLock<Result<Library, FilterError>> = OnceLock::new();
/// Held while libpcap compiles: before version 1.8 its parser has global variables.
static COMPILING: Mutex<()> = Mutex::new(());

/// `pcap_t`.
#[repr(C)]
struct Pcap {
    opaque: [u8; 0],
}

/// `struct bpf_insn`.
#[repr(C)]
struct RawInstruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    constant: u32,
}

/// `struct bpf_program`.
#[repr(C)]
struct RawProgram {
    length: c_uint,
    instructions: *mut RawInstruction,
}

/// Room for a message (`PCAP_ERRBUF_SIZE`).
const MESSAGE_BYTES: usize = 256;

/// libpcap's functions, by their names there without `pcap_`.
pub(crate) struct Library {
    open_dead: unsafe extern "C" fn(c_int, c_int) -> *mut Pcap,
    fopen_offline: unsafe extern "C" fn(*mut FILE, *mut c_char) -> *mut Pcap,
    compile: unsafe extern "C" fn(
        *mut Pcap,
        *mut RawProgram,
        *const c_char,
        optimise: c_int,
        netmask: u32,
    ) -> c_int,
    geterr: unsafe extern "C" fn(*mut Pcap) -> *const c_char,
    freecode: unsafe extern "C" fn(*mut RawProgram),
    close: unsafe extern "C" fn(*mut Pcap),
}

impl Library {
    /// Loads the library when this is called first.
    pub(crate) fn get() -> Result<&'static Self, FilterError> {
        LIBRARY.get_or_init(|| Self::load(&NAMES)).as_ref().map_err(Clone::clone)
    }

    /// Loads the library by the first of its names that the dynamic linker finds.
    fn load(names: &[&CStr]) -> Result<Self, FilterError> {
        if cfg!(target_feature = "crt-static") {
            let reason = "this program is linked statically, which can load nothing".to_owned();
            return Err(FilterError::Load { reason });
        }
        let mut reason = None;
        for name in names {
            // SAFETY: the name ends in a zero. Loading a library runs its code, as intended.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            if !handle.is_null() {
                return Self::of(handle);
            }
            // SAFETY: dlerror returns null, or a text that lives until the next call of this family
            // by this thread.
            let message = unsafe { owned(libc::dlerror()) };
            // The first name is that of the package.
            reason = reason.or(message);
        }
        Err(FilterError::Load { reason: reason.unwrap_or_else(|| "no reason given".to_owned()) })
    }

    /// Finds the functions in the library of a handle, which is never closed.
    fn of(handle: *mut c_void) -> Result<Self, FilterError> {
        macro_rules! find {
            ($name:ident) => {{
                let name = concat!(stringify!($name), "\0");
                // SAFETY: the handle came from dlopen and was not closed; the name ends in a zero.
                let address = unsafe { libc::dlsym(handle, name.as_ptr().cast()) };
                // SAFETY: the function of this name has the type that the field has.
                unsafe { function(address) }
                    .ok_or(FilterError::Symbol { name: stringify!($name) })?
            }};
        }
        Ok(Self {
            open_dead: find!(pcap_open_dead),
            fopen_offline: find!(pcap_fopen_offline),
            compile: find!(pcap_compile),
            geterr: find!(pcap_geterr),
            freecode: find!(pcap_freecode),
            close: find!(pcap_close),
        })
    }

    /// Compiles an expression.
    pub(crate) fn compile(
        &self,
        expression: &str,
        options: &FilterOptions,
    ) -> Result<Box<[Instruction]>, FilterError> {
        let wrong = |message: String| {
            let expression = expression.to_owned();
            FilterError::Expression { expression, message }
        };
        let text =
            CString::new(expression).map_err(|_| wrong("it has a NUL character".to_owned()))?;
        let _compiling = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
        let pcap = self.open(options).map_err(wrong)?;
        let mut program = RawProgram { length: 0, instructions: ptr::null_mut() };
        let optimise = c_int::from(options.optimise);
        // SAFETY: the handle is open, the program is a local variable, and the text, which is only
        // read, ends in a zero.
        let status = unsafe {
            (self.compile)(pcap, &raw mut program, text.as_ptr(), optimise, options.netmask)
        };
        let compiled = if status == 0 {
            // SAFETY: libpcap has filled the program, and it is freed below.
            Ok(unsafe { copied(&program) })
        } else {
            // SAFETY: the text is in the handle, which is open, and ends in a zero.
            let message = unsafe { owned((self.geterr)(pcap)) };
            Err(wrong(message.unwrap_or_else(|| "no reason given".to_owned())))
        };
        // SAFETY: the program is libpcap's, or empty, which the function ignores; the handle is
        // open. Neither is used again.
        unsafe {
            (self.freecode)(&raw mut program);
            (self.close)(pcap);
        }
        compiled
    }

    /// A handle for packets of an origin, not null, which must be closed.
    ///
    /// libpcap makes other programs for captures than for an interface, for example of `inbound`.
    fn open(&self, options: &FilterOptions) -> Result<*mut Pcap, String> {
        let is_swapped = match options.origin {
            PacketOrigin::File { is_swapped } => is_swapped,
            PacketOrigin::Interface => {
                let (dlt, length) = (c_int::from(options.dlt()), options.snap_length as c_int);
                // SAFETY: the function takes two numbers of any value.
                let pcap = unsafe { (self.open_dead)(dlt, length) };
                return if pcap.is_null() { Err("out of memory".to_owned()) } else { Ok(pcap) };
            }
        };
        let mut header = file_header(options, is_swapped);
        // SAFETY: the header lives to the end of this function, where libpcap has read it. Later it
        // only closes the file, which was opened for reading. The mode ends in a zero.
        let file =
            unsafe { libc::fmemopen(header.as_mut_ptr().cast(), header.len(), c"r".as_ptr()) };
        if file.is_null() {
            return Err("out of memory".to_owned());
        }
        let mut message: [c_char; MESSAGE_BYTES] = [0; MESSAGE_BYTES];
        // SAFETY: the file is open, and the message has the room that libpcap documents.
        let pcap = unsafe { (self.fopen_offline)(file, message.as_mut_ptr()) };
        if pcap.is_null() {
            // SAFETY: after a failure the file is still the caller's. It is not used again.
            unsafe { libc::fclose(file) };
            // SAFETY: libpcap ends its message in a zero; before, the array has only zeros.
            return Err(unsafe { owned(message.as_ptr()) }.unwrap_or_default());
        }
        Ok(pcap)
    }
}

/// The header of a pcap file, in the byte order of this machine or in the other one.
fn file_header(options: &FilterOptions, is_swapped: bool) -> [u8; 24] {
    let words = [0xa1b2_c3d4, 0, 0, 0, options.snap_length, u32::from(options.link)];
    let mut header = [0; 24];
    for (target, word) in header.chunks_exact_mut(4).zip(words) {
        let word: u32 = if is_swapped { word.swap_bytes() } else { word };
        target.copy_from_slice(&word.to_ne_bytes());
    }
    // The version is two numbers of two bytes.
    for (at, number) in [(4, 2_u16), (6, 4)] {
        let number = if is_swapped { number.swap_bytes() } else { number };
        header[at..at + 2].copy_from_slice(&number.to_ne_bytes());
    }
    header
}

/// Copies a program.
///
/// # Safety
/// The program has no instructions, or a pointer to as many as its length.
unsafe fn copied(program: &RawProgram) -> Box<[Instruction]> {
    if program.instructions.is_null() {
        return Box::default();
    }
    // SAFETY: as the caller promises; libpcap aligns what it allocates.
    let raw = unsafe { slice::from_raw_parts(program.instructions, program.length as usize) };
    let copy = |raw: &RawInstruction| Instruction {
        code: raw.code,
        jump_true: raw.jump_true,
        jump_false: raw.jump_false,
        constant: raw.constant,
    };
    raw.iter().map(copy).collect()
}

/// A copy of a C text on one line.
///
/// # Safety
/// The pointer is null, or to a text that ends in a zero and lives during this call.
unsafe fn owned(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
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
        let error = Library::load(&[c"libpcap-of-nobody.so.9"]).err().unwrap();
        let message = error.to_string();
        assert!(message.contains("install the package libpcap0.8"), "{message}");
        assert!(message.contains("libpcap-of-nobody.so.9"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn the_first_missing_function_of_another_library_is_reported() {
        let error = Library::load(&[c"libpcap-of-nobody.so.9", c"libc.so.6"]).err().unwrap();
        assert_eq!(error, FilterError::Symbol { name: "pcap_open_dead" });
    }
}
