//! DOCA's C interface, made by bindgen from `engine/sources/doca`: `cargo xtask bindings`. Not to be edited.
#![allow(unsafe_code, reason = "function pointers of a C library")]
#![allow(missing_docs, non_camel_case_types, unreachable_pub, dead_code, reason = "C names")]
#![allow(clippy::all, clippy::pedantic, reason = "generated")]

pub const DOCA_DEVINFO_IBDEV_NAME_SIZE: u32 = 64;
pub const DOCA_DEVINFO_PCI_ADDR_SIZE: u32 = 13;
pub const DOCA_DEVINFO_REP_VUID_SIZE: u32 = 128;
pub const DOCA_DEVINFO_REP_PCI_ADDR_SIZE: u32 = 13;
pub const DOCA_SUCCESS: doca_error = 0;
pub const DOCA_ERROR_UNKNOWN: doca_error = 1;
pub const DOCA_ERROR_NOT_PERMITTED: doca_error = 2;
pub const DOCA_ERROR_IN_USE: doca_error = 3;
pub const DOCA_ERROR_NOT_SUPPORTED: doca_error = 4;
pub const DOCA_ERROR_AGAIN: doca_error = 5;
pub const DOCA_ERROR_INVALID_VALUE: doca_error = 6;
pub const DOCA_ERROR_NO_MEMORY: doca_error = 7;
pub const DOCA_ERROR_INITIALIZATION: doca_error = 8;
pub const DOCA_ERROR_TIME_OUT: doca_error = 9;
pub const DOCA_ERROR_SHUTDOWN: doca_error = 10;
pub const DOCA_ERROR_CONNECTION_RESET: doca_error = 11;
pub const DOCA_ERROR_CONNECTION_ABORTED: doca_error = 12;
pub const DOCA_ERROR_CONNECTION_INPROGRESS: doca_error = 13;
pub const DOCA_ERROR_NOT_CONNECTED: doca_error = 14;
pub const DOCA_ERROR_NO_LOCK: doca_error = 15;
pub const DOCA_ERROR_NOT_FOUND: doca_error = 16;
pub const DOCA_ERROR_IO_FAILED: doca_error = 17;
pub const DOCA_ERROR_BAD_STATE: doca_error = 18;
pub const DOCA_ERROR_UNSUPPORTED_VERSION: doca_error = 19;
pub const DOCA_ERROR_OPERATING_SYSTEM: doca_error = 20;
pub const DOCA_ERROR_DRIVER: doca_error = 21;
pub const DOCA_ERROR_UNEXPECTED: doca_error = 22;
pub const DOCA_ERROR_ALREADY_EXIST: doca_error = 23;
pub const DOCA_ERROR_FULL: doca_error = 24;
pub const DOCA_ERROR_EMPTY: doca_error = 25;
pub const DOCA_ERROR_IN_PROGRESS: doca_error = 26;
pub const DOCA_ERROR_TOO_BIG: doca_error = 27;
pub type doca_error = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub union doca_data {
    pub ptr: *mut ::core::ffi::c_void,
    pub u64_: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of doca_data"][::core::mem::size_of::<doca_data>() - 8usize];
    ["Alignment of doca_data"][::core::mem::align_of::<doca_data>() - 8usize];
    ["Offset of field: doca_data::ptr"][::core::mem::offset_of!(doca_data, ptr) - 0usize];
    ["Offset of field: doca_data::u64_"][::core::mem::offset_of!(doca_data, u64_) - 0usize];
};
pub const DOCA_ACCESS_FLAG_LOCAL_READ_ONLY: doca_access_flag = 0;
pub const DOCA_ACCESS_FLAG_LOCAL_READ_WRITE: doca_access_flag = 1;
pub type doca_access_flag = ::core::ffi::c_uint;
pub const DOCA_PCI_FUNC_TYPE_PF: doca_pci_func_type = 0;
pub const DOCA_PCI_FUNC_TYPE_VF: doca_pci_func_type = 1;
pub const DOCA_PCI_FUNC_TYPE_SF: doca_pci_func_type = 2;
pub type doca_pci_func_type = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_devinfo {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_devinfo_rep {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_dev {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_dev_rep {
    _unused: [u8; 0],
}
pub const DOCA_DEVINFO_REP_FILTER_ALL: doca_devinfo_rep_filter = 0;
pub const DOCA_DEVINFO_REP_FILTER_NET: doca_devinfo_rep_filter = 2;
pub const DOCA_DEVINFO_REP_FILTER_EMULATED: doca_devinfo_rep_filter = 4;
pub type doca_devinfo_rep_filter = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_ctx {
    _unused: [u8; 0],
}
pub const DOCA_CTX_STATE_IDLE: doca_ctx_states = 0;
pub const DOCA_CTX_STATE_STARTING: doca_ctx_states = 1;
pub const DOCA_CTX_STATE_RUNNING: doca_ctx_states = 2;
pub const DOCA_CTX_STATE_STOPPING: doca_ctx_states = 3;
pub type doca_ctx_states = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_mmap {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_buf {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_buf_inventory {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_pe {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_task {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_dma {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_dma_task_memcpy {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_devemu_pci_type {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_devemu_pci_dev {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_devemu_pci_ep {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_log_backend {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct doca_symbols {
    pub doca_version_runtime:
        ::core::option::Option<unsafe extern "C" fn() -> *const ::core::ffi::c_char>,
    pub doca_error_get_name: ::core::option::Option<
        unsafe extern "C" fn(arg1: doca_error) -> *const ::core::ffi::c_char,
    >,
    pub doca_error_get_descr: ::core::option::Option<
        unsafe extern "C" fn(arg1: doca_error) -> *const ::core::ffi::c_char,
    >,
    pub doca_log_backend_create_with_fd_sdk: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: ::core::ffi::c_int,
            arg2: *mut *mut doca_log_backend,
        ) -> doca_error,
    >,
    pub doca_log_level_set_global_sdk_limit:
        ::core::option::Option<unsafe extern "C" fn(arg1: ::core::ffi::c_uint) -> doca_error>,
    pub doca_devinfo_create_list: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *mut *mut *mut doca_devinfo,
            arg2: *mut ::core::ffi::c_uint,
        ) -> doca_error,
    >,
    pub doca_devinfo_destroy_list:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut *mut doca_devinfo) -> doca_error>,
    pub doca_devinfo_get_ibdev_name: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *const doca_devinfo,
            arg2: *mut ::core::ffi::c_char,
            arg3: ::core::ffi::c_uint,
        ) -> doca_error,
    >,
    pub doca_devinfo_get_pci_addr_str: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *const doca_devinfo,
            arg2: *mut ::core::ffi::c_char,
        ) -> doca_error,
    >,
    pub doca_dev_open: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_devinfo, arg2: *mut *mut doca_dev) -> doca_error,
    >,
    pub doca_dev_close:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_dev) -> doca_error>,
    pub doca_dev_as_devinfo:
        ::core::option::Option<unsafe extern "C" fn(arg1: *const doca_dev) -> *mut doca_devinfo>,
    pub doca_devinfo_rep_create_list: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *mut doca_dev,
            arg2: ::core::ffi::c_int,
            arg3: *mut *mut *mut doca_devinfo_rep,
            arg4: *mut ::core::ffi::c_uint,
        ) -> doca_error,
    >,
    pub doca_devinfo_rep_destroy_list: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut *mut doca_devinfo_rep) -> doca_error,
    >,
    pub doca_devinfo_rep_get_vuid: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *const doca_devinfo_rep,
            arg2: *mut ::core::ffi::c_char,
            arg3: ::core::ffi::c_uint,
        ) -> doca_error,
    >,
    pub doca_devinfo_rep_get_pci_addr_str: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *const doca_devinfo_rep,
            arg2: *mut ::core::ffi::c_char,
        ) -> doca_error,
    >,
    pub doca_devinfo_rep_get_pci_func_type: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *const doca_devinfo_rep,
            arg2: *mut doca_pci_func_type,
        ) -> doca_error,
    >,
    pub doca_dev_rep_open: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *mut doca_devinfo_rep,
            arg2: *mut *mut doca_dev_rep,
        ) -> doca_error,
    >,
    pub doca_dev_rep_close:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_dev_rep) -> doca_error>,
    pub doca_mmap_create:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut *mut doca_mmap) -> doca_error>,
    pub doca_mmap_destroy:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_mmap) -> doca_error>,
    pub doca_mmap_start:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_mmap) -> doca_error>,
    pub doca_mmap_add_dev: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_mmap, arg2: *mut doca_dev) -> doca_error,
    >,
    pub doca_mmap_set_memrange: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *mut doca_mmap,
            arg2: *mut ::core::ffi::c_void,
            arg3: ::core::ffi::c_ulong,
        ) -> doca_error,
    >,
    pub doca_mmap_set_permissions: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_mmap, arg2: ::core::ffi::c_uint) -> doca_error,
    >,
    pub doca_mmap_set_max_num_devices: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_mmap, arg2: ::core::ffi::c_uint) -> doca_error,
    >,
    pub doca_buf_inventory_create: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: ::core::ffi::c_ulong,
            arg2: *mut *mut doca_buf_inventory,
        ) -> doca_error,
    >,
    pub doca_buf_inventory_destroy:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_buf_inventory) -> doca_error>,
    pub doca_buf_inventory_start:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_buf_inventory) -> doca_error>,
    pub doca_buf_inventory_buf_get_by_args: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *mut doca_buf_inventory,
            arg2: *mut doca_mmap,
            arg3: *mut ::core::ffi::c_void,
            arg4: ::core::ffi::c_ulong,
            arg5: *mut ::core::ffi::c_void,
            arg6: ::core::ffi::c_ulong,
            arg7: *mut *mut doca_buf,
        ) -> doca_error,
    >,
    pub doca_buf_dec_refcount: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_buf, arg2: *mut ::core::ffi::c_ushort) -> doca_error,
    >,
    pub doca_buf_get_data_len: ::core::option::Option<
        unsafe extern "C" fn(arg1: *const doca_buf, arg2: *mut ::core::ffi::c_ulong) -> doca_error,
    >,
    pub doca_buf_reset_data_len:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_buf) -> doca_error>,
    pub doca_ctx_start:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_ctx) -> doca_error>,
    pub doca_ctx_stop:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_ctx) -> doca_error>,
    pub doca_ctx_set_user_data: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_ctx, arg2: doca_data) -> doca_error,
    >,
    pub doca_ctx_get_state: ::core::option::Option<
        unsafe extern "C" fn(arg1: *const doca_ctx, arg2: *mut doca_ctx_states) -> doca_error,
    >,
    pub doca_pe_create:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut *mut doca_pe) -> doca_error>,
    pub doca_pe_destroy:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_pe) -> doca_error>,
    pub doca_pe_connect_ctx: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_pe, arg2: *mut doca_ctx) -> doca_error,
    >,
    pub doca_pe_progress:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_pe) -> ::core::ffi::c_uchar>,
    pub doca_task_submit:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_task) -> doca_error>,
    pub doca_task_free: ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_task)>,
    pub doca_task_get_status:
        ::core::option::Option<unsafe extern "C" fn(arg1: *const doca_task) -> doca_error>,
    pub doca_dma_create: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_dev, arg2: *mut *mut doca_dma) -> doca_error,
    >,
    pub doca_dma_destroy:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_dma) -> doca_error>,
    pub doca_dma_as_ctx:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_dma) -> *mut doca_ctx>,
    pub doca_dma_cap_task_memcpy_is_supported:
        ::core::option::Option<unsafe extern "C" fn(arg1: *const doca_devinfo) -> doca_error>,
    pub doca_dma_cap_task_memcpy_get_max_buf_size: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *const doca_devinfo,
            arg2: *mut ::core::ffi::c_ulong,
        ) -> doca_error,
    >,
    pub doca_dma_cap_get_max_num_tasks: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_dma, arg2: *mut ::core::ffi::c_uint) -> doca_error,
    >,
    pub doca_dma_task_memcpy_set_conf: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *mut doca_dma,
            arg2: ::core::option::Option<
                unsafe extern "C" fn(
                    arg1: *mut doca_dma_task_memcpy,
                    arg2: doca_data,
                    arg3: doca_data,
                ),
            >,
            arg3: ::core::option::Option<
                unsafe extern "C" fn(
                    arg1: *mut doca_dma_task_memcpy,
                    arg2: doca_data,
                    arg3: doca_data,
                ),
            >,
            arg4: ::core::ffi::c_uint,
        ) -> doca_error,
    >,
    pub doca_dma_task_memcpy_alloc_init: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *mut doca_dma,
            arg2: *const doca_buf,
            arg3: *mut doca_buf,
            arg4: doca_data,
            arg5: *mut *mut doca_dma_task_memcpy,
        ) -> doca_error,
    >,
    pub doca_dma_task_memcpy_as_task: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_dma_task_memcpy) -> *mut doca_task,
    >,
    pub doca_dma_task_memcpy_set_src: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_dma_task_memcpy, arg2: *const doca_buf),
    >,
    pub doca_devemu_pci_type_create: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *const ::core::ffi::c_char,
            arg2: *mut *mut doca_devemu_pci_type,
        ) -> doca_error,
    >,
    pub doca_devemu_pci_type_destroy:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_devemu_pci_type) -> doca_error>,
    pub doca_devemu_pci_type_set_dev: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_devemu_pci_type, arg2: *mut doca_dev) -> doca_error,
    >,
    pub doca_devemu_pci_type_start:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_devemu_pci_type) -> doca_error>,
    pub doca_devemu_pci_type_stop:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_devemu_pci_type) -> doca_error>,
    pub doca_devemu_pci_dev_create: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *mut doca_devemu_pci_type,
            arg2: *mut doca_dev_rep,
            arg3: *mut doca_pe,
            arg4: *mut *mut doca_devemu_pci_dev,
        ) -> doca_error,
    >,
    pub doca_devemu_pci_dev_destroy:
        ::core::option::Option<unsafe extern "C" fn(arg1: *mut doca_devemu_pci_dev) -> doca_error>,
    pub doca_devemu_pci_dev_as_ctx: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_devemu_pci_dev) -> *mut doca_ctx,
    >,
    pub doca_devemu_pci_mmap_create: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *mut doca_devemu_pci_dev,
            arg2: *mut *mut doca_mmap,
        ) -> doca_error,
    >,
    pub doca_devemu_pci_dev_as_ep: ::core::option::Option<
        unsafe extern "C" fn(arg1: *mut doca_devemu_pci_dev) -> *mut doca_devemu_pci_ep,
    >,
    pub doca_devemu_pci_ep_mmap_create: ::core::option::Option<
        unsafe extern "C" fn(
            arg1: *mut doca_devemu_pci_ep,
            arg2: *mut *mut doca_mmap,
        ) -> doca_error,
    >,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of doca_symbols"][::core::mem::size_of::<doca_symbols>() - 520usize];
    ["Alignment of doca_symbols"][::core::mem::align_of::<doca_symbols>() - 8usize];
    ["Offset of field: doca_symbols::doca_version_runtime"]
        [::core::mem::offset_of!(doca_symbols, doca_version_runtime) - 0usize];
    ["Offset of field: doca_symbols::doca_error_get_name"]
        [::core::mem::offset_of!(doca_symbols, doca_error_get_name) - 8usize];
    ["Offset of field: doca_symbols::doca_error_get_descr"]
        [::core::mem::offset_of!(doca_symbols, doca_error_get_descr) - 16usize];
    ["Offset of field: doca_symbols::doca_log_backend_create_with_fd_sdk"]
        [::core::mem::offset_of!(doca_symbols, doca_log_backend_create_with_fd_sdk) - 24usize];
    ["Offset of field: doca_symbols::doca_log_level_set_global_sdk_limit"]
        [::core::mem::offset_of!(doca_symbols, doca_log_level_set_global_sdk_limit) - 32usize];
    ["Offset of field: doca_symbols::doca_devinfo_create_list"]
        [::core::mem::offset_of!(doca_symbols, doca_devinfo_create_list) - 40usize];
    ["Offset of field: doca_symbols::doca_devinfo_destroy_list"]
        [::core::mem::offset_of!(doca_symbols, doca_devinfo_destroy_list) - 48usize];
    ["Offset of field: doca_symbols::doca_devinfo_get_ibdev_name"]
        [::core::mem::offset_of!(doca_symbols, doca_devinfo_get_ibdev_name) - 56usize];
    ["Offset of field: doca_symbols::doca_devinfo_get_pci_addr_str"]
        [::core::mem::offset_of!(doca_symbols, doca_devinfo_get_pci_addr_str) - 64usize];
    ["Offset of field: doca_symbols::doca_dev_open"]
        [::core::mem::offset_of!(doca_symbols, doca_dev_open) - 72usize];
    ["Offset of field: doca_symbols::doca_dev_close"]
        [::core::mem::offset_of!(doca_symbols, doca_dev_close) - 80usize];
    ["Offset of field: doca_symbols::doca_dev_as_devinfo"]
        [::core::mem::offset_of!(doca_symbols, doca_dev_as_devinfo) - 88usize];
    ["Offset of field: doca_symbols::doca_devinfo_rep_create_list"]
        [::core::mem::offset_of!(doca_symbols, doca_devinfo_rep_create_list) - 96usize];
    ["Offset of field: doca_symbols::doca_devinfo_rep_destroy_list"]
        [::core::mem::offset_of!(doca_symbols, doca_devinfo_rep_destroy_list) - 104usize];
    ["Offset of field: doca_symbols::doca_devinfo_rep_get_vuid"]
        [::core::mem::offset_of!(doca_symbols, doca_devinfo_rep_get_vuid) - 112usize];
    ["Offset of field: doca_symbols::doca_devinfo_rep_get_pci_addr_str"]
        [::core::mem::offset_of!(doca_symbols, doca_devinfo_rep_get_pci_addr_str) - 120usize];
    ["Offset of field: doca_symbols::doca_devinfo_rep_get_pci_func_type"]
        [::core::mem::offset_of!(doca_symbols, doca_devinfo_rep_get_pci_func_type) - 128usize];
    ["Offset of field: doca_symbols::doca_dev_rep_open"]
        [::core::mem::offset_of!(doca_symbols, doca_dev_rep_open) - 136usize];
    ["Offset of field: doca_symbols::doca_dev_rep_close"]
        [::core::mem::offset_of!(doca_symbols, doca_dev_rep_close) - 144usize];
    ["Offset of field: doca_symbols::doca_mmap_create"]
        [::core::mem::offset_of!(doca_symbols, doca_mmap_create) - 152usize];
    ["Offset of field: doca_symbols::doca_mmap_destroy"]
        [::core::mem::offset_of!(doca_symbols, doca_mmap_destroy) - 160usize];
    ["Offset of field: doca_symbols::doca_mmap_start"]
        [::core::mem::offset_of!(doca_symbols, doca_mmap_start) - 168usize];
    ["Offset of field: doca_symbols::doca_mmap_add_dev"]
        [::core::mem::offset_of!(doca_symbols, doca_mmap_add_dev) - 176usize];
    ["Offset of field: doca_symbols::doca_mmap_set_memrange"]
        [::core::mem::offset_of!(doca_symbols, doca_mmap_set_memrange) - 184usize];
    ["Offset of field: doca_symbols::doca_mmap_set_permissions"]
        [::core::mem::offset_of!(doca_symbols, doca_mmap_set_permissions) - 192usize];
    ["Offset of field: doca_symbols::doca_mmap_set_max_num_devices"]
        [::core::mem::offset_of!(doca_symbols, doca_mmap_set_max_num_devices) - 200usize];
    ["Offset of field: doca_symbols::doca_buf_inventory_create"]
        [::core::mem::offset_of!(doca_symbols, doca_buf_inventory_create) - 208usize];
    ["Offset of field: doca_symbols::doca_buf_inventory_destroy"]
        [::core::mem::offset_of!(doca_symbols, doca_buf_inventory_destroy) - 216usize];
    ["Offset of field: doca_symbols::doca_buf_inventory_start"]
        [::core::mem::offset_of!(doca_symbols, doca_buf_inventory_start) - 224usize];
    ["Offset of field: doca_symbols::doca_buf_inventory_buf_get_by_args"]
        [::core::mem::offset_of!(doca_symbols, doca_buf_inventory_buf_get_by_args) - 232usize];
    ["Offset of field: doca_symbols::doca_buf_dec_refcount"]
        [::core::mem::offset_of!(doca_symbols, doca_buf_dec_refcount) - 240usize];
    ["Offset of field: doca_symbols::doca_buf_get_data_len"]
        [::core::mem::offset_of!(doca_symbols, doca_buf_get_data_len) - 248usize];
    ["Offset of field: doca_symbols::doca_buf_reset_data_len"]
        [::core::mem::offset_of!(doca_symbols, doca_buf_reset_data_len) - 256usize];
    ["Offset of field: doca_symbols::doca_ctx_start"]
        [::core::mem::offset_of!(doca_symbols, doca_ctx_start) - 264usize];
    ["Offset of field: doca_symbols::doca_ctx_stop"]
        [::core::mem::offset_of!(doca_symbols, doca_ctx_stop) - 272usize];
    ["Offset of field: doca_symbols::doca_ctx_set_user_data"]
        [::core::mem::offset_of!(doca_symbols, doca_ctx_set_user_data) - 280usize];
    ["Offset of field: doca_symbols::doca_ctx_get_state"]
        [::core::mem::offset_of!(doca_symbols, doca_ctx_get_state) - 288usize];
    ["Offset of field: doca_symbols::doca_pe_create"]
        [::core::mem::offset_of!(doca_symbols, doca_pe_create) - 296usize];
    ["Offset of field: doca_symbols::doca_pe_destroy"]
        [::core::mem::offset_of!(doca_symbols, doca_pe_destroy) - 304usize];
    ["Offset of field: doca_symbols::doca_pe_connect_ctx"]
        [::core::mem::offset_of!(doca_symbols, doca_pe_connect_ctx) - 312usize];
    ["Offset of field: doca_symbols::doca_pe_progress"]
        [::core::mem::offset_of!(doca_symbols, doca_pe_progress) - 320usize];
    ["Offset of field: doca_symbols::doca_task_submit"]
        [::core::mem::offset_of!(doca_symbols, doca_task_submit) - 328usize];
    ["Offset of field: doca_symbols::doca_task_free"]
        [::core::mem::offset_of!(doca_symbols, doca_task_free) - 336usize];
    ["Offset of field: doca_symbols::doca_task_get_status"]
        [::core::mem::offset_of!(doca_symbols, doca_task_get_status) - 344usize];
    ["Offset of field: doca_symbols::doca_dma_create"]
        [::core::mem::offset_of!(doca_symbols, doca_dma_create) - 352usize];
    ["Offset of field: doca_symbols::doca_dma_destroy"]
        [::core::mem::offset_of!(doca_symbols, doca_dma_destroy) - 360usize];
    ["Offset of field: doca_symbols::doca_dma_as_ctx"]
        [::core::mem::offset_of!(doca_symbols, doca_dma_as_ctx) - 368usize];
    ["Offset of field: doca_symbols::doca_dma_cap_task_memcpy_is_supported"]
        [::core::mem::offset_of!(doca_symbols, doca_dma_cap_task_memcpy_is_supported) - 376usize];
    ["Offset of field: doca_symbols::doca_dma_cap_task_memcpy_get_max_buf_size"][::core::mem::offset_of!(
        doca_symbols,
        doca_dma_cap_task_memcpy_get_max_buf_size
    ) - 384usize];
    ["Offset of field: doca_symbols::doca_dma_cap_get_max_num_tasks"]
        [::core::mem::offset_of!(doca_symbols, doca_dma_cap_get_max_num_tasks) - 392usize];
    ["Offset of field: doca_symbols::doca_dma_task_memcpy_set_conf"]
        [::core::mem::offset_of!(doca_symbols, doca_dma_task_memcpy_set_conf) - 400usize];
    ["Offset of field: doca_symbols::doca_dma_task_memcpy_alloc_init"]
        [::core::mem::offset_of!(doca_symbols, doca_dma_task_memcpy_alloc_init) - 408usize];
    ["Offset of field: doca_symbols::doca_dma_task_memcpy_as_task"]
        [::core::mem::offset_of!(doca_symbols, doca_dma_task_memcpy_as_task) - 416usize];
    ["Offset of field: doca_symbols::doca_dma_task_memcpy_set_src"]
        [::core::mem::offset_of!(doca_symbols, doca_dma_task_memcpy_set_src) - 424usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_type_create"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_type_create) - 432usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_type_destroy"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_type_destroy) - 440usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_type_set_dev"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_type_set_dev) - 448usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_type_start"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_type_start) - 456usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_type_stop"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_type_stop) - 464usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_dev_create"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_dev_create) - 472usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_dev_destroy"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_dev_destroy) - 480usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_dev_as_ctx"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_dev_as_ctx) - 488usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_mmap_create"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_mmap_create) - 496usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_dev_as_ep"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_dev_as_ep) - 504usize];
    ["Offset of field: doca_symbols::doca_devemu_pci_ep_mmap_create"]
        [::core::mem::offset_of!(doca_symbols, doca_devemu_pci_ep_mmap_create) - 512usize];
};
