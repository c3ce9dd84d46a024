//! What the contract names and this version has, in one place.
//!
//! What is `false` here is still parsed and checked, so that its mistakes are found, and then
//! refused with one clear line. Whoever builds a thing flips its constant.

/// `qemu:PID`.
pub const SYSTEM_QEMU: bool = false;
/// `host:`.
pub const SYSTEM_HOST: bool = false;
/// `doca:DEVICE/VUID`, with `representor_id`, `dma_device` and `sdk_log_level`.
pub const SYSTEM_DOCA: bool = false;
/// `auto_scan`: finding systems that nobody named.
pub const AUTO_SCAN: bool = false;
/// `memory_regions_path` with a file.
pub const MEMORY_REGIONS_FILE: bool = false;
/// `containers.include` and `containers.exclude`.
pub const CONTAINER_FILTER: bool = false;
/// `sbom`.
pub const SBOM: bool = false;
/// `output.telemetry`.
pub const TELEMETRY: bool = false;
/// `output.metrics`.
pub const METRICS: bool = false;
/// `service.compatibility: doca_argus`.
pub const COMPATIBILITY: bool = false;
