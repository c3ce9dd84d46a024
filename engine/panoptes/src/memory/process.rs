//! What limits the memory of this process beside the machine and its control groups: its address
//! space (`RLIMIT_AS`), and strict accounting of what is promised (`vm.overcommit_memory` = 2).
//!
//! An allocation beyond either ends the process, so both are asked before.

use std::fs;
use std::path::Path;

use super::MemoryLeft;

/// What an address space must have room for, beside the memory that is counted: an arena of 64 MiB
/// for each thread that allocates (`HEAP_MAX_SIZE`, glibc's malloc/arena.c), stacks, files.
const ADDRESSES_SPARE: u64 = 1 << 30;
/// Stacks and private files count as promised, arenas do not.
const PROMISED_SPARE: u64 = 64 << 20;
/// `OVERCOMMIT_NEVER` (include/uapi/linux/mman.h).
const NEVER: &str = "2";

/// How much this process may allocate: as it is now, or if it began anew on an idle machine.
pub(super) fn limits(root: &Path, is_now: bool) -> impl Iterator<Item = MemoryLeft> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let space = address_space(&read("proc/self/limits"), &read("proc/self/status"), is_now);
    let is_strict = read("proc/sys/vm/overcommit_memory").trim() == NEVER;
    let promised = is_strict.then(|| promised(&read("proc/meminfo"), is_now)).flatten();
    space.into_iter().chain(promised)
}

/// The soft limit of /proc/self/limits, less the `VmSize` of /proc/self/status.
fn address_space(limits: &str, status: &str, is_now: bool) -> Option<MemoryLeft> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let used = if is_now { kib(status, "VmSize:")?.saturating_mul(1024) } else { 0 };
    let bytes = limit.saturating_sub(used).saturating_sub(ADDRESSES_SPARE);
    let by = "the limit of the address space: ulimit -v, LimitAS=";
    Some(MemoryLeft { bytes, by: by.to_owned() })
}

fn promised(meminfo: &str, is_now: bool) -> Option<MemoryLeft> {
    let used = if is_now { kib(meminfo, "Committed_AS:")? } else { 0 };
    let bytes = kib(meminfo, "CommitLimit:")?.saturating_sub(used).saturating_mul(1024);
    let bytes = bytes.saturating_sub(PROMISED_SPARE);
    let by = "CommitLimit in /proc/meminfo, as vm.overcommit_memory is 2";
    Some(MemoryLeft { bytes, by: by.to_owned() })
}

/// The number behind a key, in KiB.
fn kib(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(key));
    lines.next()?.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_address_space_counts_where_it_is_limited() {
        let limits = |value: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max address space         {value:20} unlimited            bytes\n"
            )
        };
        let left = |value: &str, is_now| {
            address_space(&limits(value), "VmPeak: 9 kB\nVmSize:   102400 kB\n", is_now)
                .map(|left| left.bytes)
        };
        assert_eq!(left("unlimited", true), None);
        // 2 GiB, of which 100 MiB are used.
        assert_eq!(left("2147483648", true), Some(924 * MIB));
        assert_eq!(left("2147483648", false), Some(1024 * MIB));
        assert_eq!(left("1331200000", true), Some(1_331_200_000 - 1124 * MIB));
        assert_eq!(left("1000", true), Some(0));
    }

    #[test]
    fn promises_count_where_none_is_broken() {
        let text = "MemTotal: 9 kB\nCommitLimit:     1048576 kB\nCommitted_AS:     524288 kB\n";
        let left = |is_now| promised(text, is_now).map(|left| left.bytes);
        assert_eq!((left(true), left(false)), (Some(448 * MIB), Some(960 * MIB)));
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("there is room");
            fs::write(path, text).expect("there is room");
        };
        write("proc/meminfo", text);
        for (mode, count) in [("0\n", 0), ("1\n", 0), ("2\n", 1)] {
            write("proc/sys/vm/overcommit_memory", mode);
            assert_eq!(limits(folder.path(), true).count(), count, "{mode}");
        }
    }
}
