//! The commands of bpf(2) that put a program in front of an interface.
#![allow(unsafe_code, reason = "bpf(2) takes pointers, and no safe library has it")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use super::program::{Instruction, NAME};

/// Commands (`enum bpf_cmd` in `include/uapi/linux/bpf.h`).
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
/// A map of AF_XDP sockets (`enum bpf_map_type`).
const XSKMAP: u32 = 17;
/// A program of this kind (`enum bpf_prog_type`), and where it runs (`enum bpf_attach_type`).
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// The licence of this project. The kernel's functions that the program calls need no other one.
const LICENCE: &std::ffi::CStr = c"Apache-2.0";

/// Where a program is attached (`XDP_FLAGS_` in `include/uapi/linux/if_link.h`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum XdpAttachMode {
    /// In the kernel's stack, for drivers without support.
    Stack = 1 << 1,
    /// In the driver.
    Driver = 1 << 2,
}

/// Attributes of the commands (`union bpf_attr`), without what stays zero at their ends.
#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
}

#[repr(C)]
struct UpdateAttributes {
    map: u32,
    key: *const u32,
    value: *const u32,
    flags: u64,
}

#[repr(C)]
struct ProgramAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: *const Instruction,
    licence: *const libc::c_char,
    log_level: u32,
    log_bytes: u32,
    log: *mut u8,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
}

/// A command; what it returns.
///
/// # Safety
///
/// The attributes must be those of the command, and their pointers must be live.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    let bytes = size_of::<T>() as libc::c_uint;
    // SAFETY: the kernel reads so many bytes, and what the caller vouches for.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, (&raw const *attributes).cast::<u8>(), bytes)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

/// The descriptor that a command returned.
fn owned(descriptor: libc::c_int) -> OwnedFd {
    // SAFETY: the kernel has just made it, so nothing else owns it. It is closed on exec.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn number(descriptor: &impl AsFd) -> u32 {
    descriptor.as_fd().as_raw_fd() as u32
}

/// An empty map of sockets, by receive queue.
pub(super) fn new_map(queues: u32) -> io::Result<OwnedFd> {
    let attributes = MapAttributes { kind: XSKMAP, key_bytes: 4, value_bytes: 4, entries: queues };
    // SAFETY: these attributes are those of the command, and have no pointers.
    unsafe { bpf(MAP_CREATE, &attributes) }.map(owned)
}

/// Has frames of a queue go to a socket. The map forgets the socket once that is closed.
pub(super) fn set_socket(map: &OwnedFd, queue: u32, socket: &impl AsFd) -> io::Result<()> {
    let socket = number(socket);
    let attributes = UpdateAttributes {
        map: number(map),
        key: &raw const queue,
        value: &raw const socket,
        flags: 0,
    };
    // SAFETY: the kernel reads a key and a value of the four bytes each that the map has; both are
    // live during the call.
    unsafe { bpf(MAP_UPDATE_ELEM, &attributes) }.map(drop)
}

/// Loads a program. The kernel checks that it can do no harm.
pub(super) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..NAME.len()].copy_from_slice(NAME);
    let attributes = ProgramAttributes {
        kind: PROG_TYPE_XDP,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr(),
        licence: LICENCE.as_ptr(),
        log_level: 0,
        log_bytes: 0,
        log: std::ptr::null_mut(),
        kernel_version: 0,
        flags: 0,
        name,
        interface: 0,
        attach: ATTACH_XDP,
    };
    // SAFETY: the kernel reads so many instructions, and a text that ends with a zero; both are
    // live during the call.
    unsafe { bpf(PROG_LOAD, &attributes) }.map(owned)
}

/// Attaches a program to an interface until the returned link is closed, also by the end of the
/// process. Since Linux kernel commit aa8d3a716b59 ("bpf, xdp: Add bpf_link-based XDP attachment
/// API") (in v5.9).
pub(super) fn attach(
    program: &OwnedFd,
    interface: u32,
    place: XdpAttachMode,
) -> io::Result<OwnedFd> {
    let attributes = LinkAttributes {
        program: number(program),
        interface,
        attach: ATTACH_XDP,
        flags: place as u32,
    };
    // SAFETY: these attributes are those of the command, and have no pointers.
    unsafe { bpf(LINK_CREATE, &attributes) }.map(owned)
}
