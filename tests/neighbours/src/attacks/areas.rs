//! Attacks by memory areas.

use std::time::Duration;

use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_READ, VM_WRITE};
use panoptes_synthetic::Area;

use crate::hostile::Hostile;
use crate::machines::SHIPPED_BYTES;

const PAGE_BYTES: u64 = 4096;
/// Where the areas of attackers begin: below those of programs.
const FIRST: u64 = 0x1000_0000_0000;

/// Maps `count` files, each with the size of a shipped one and nothing in memory, as executable.
fn map_sparse_files(host: &mut Hostile<'_>, pid: u32, count: u64) {
    let mut areas = Vec::new();
    for number in 0..count {
        let path = format!("/tmp/lib/{number}");
        host.machine().set_size(&path, SHIPPED_BYTES);
        let start = FIRST + number * 4 * PAGE_BYTES;
        let end = start + PAGE_BYTES;
        let flags = VM_READ | VM_EXEC;
        areas.push(Area { start, end, flags, path: Some(path), page_offset: 0 });
        if number % 256 == 0 && !host.goes_on() {
            return;
        }
    }
    host.machine().map(pid, &areas);
}

/// B1.3: 33,000 executable maps of sparse files, and a change of areas before each scan.
pub(super) fn sparse_maps(host: &mut Hostile<'_>) {
    let pid = host.busy();
    map_sparse_files(host, pid, 33_000);
    host.act();
    let mut flags = VM_READ | VM_EXEC;
    while host.rest(Duration::from_millis(5)) {
        flags ^= VM_WRITE;
        host.machine().protect(pid, FIRST, flags);
    }
}

/// C5: more files wait for their content than there is room for.
pub(super) fn waiting_files(host: &mut Hostile<'_>) {
    let pid = host.busy();
    map_sparse_files(host, pid, 33_000);
    host.act();
    host.rest_on();
}

/// C9: the foreign program maps and unmaps memory without end.
pub(super) fn churn(host: &mut Hostile<'_>) {
    host.act();
    let Some(pid) = host.act.as_ref().map(|act| act.pid) else { return };
    while host.goes_on() {
        let flags = VM_READ | VM_WRITE;
        let end = FIRST + 16 * PAGE_BYTES;
        host.machine().map(pid, &[Area { start: FIRST, end, flags, ..Area::default() }]);
        host.machine().unmap(pid, FIRST);
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// C14: five processes with 60,000 areas each.
pub(super) fn many(host: &mut Hostile<'_>) {
    for _ in 0..5 {
        let pid = host.busy();
        host.machine().map_anonymous(pid, 60_000, 1);
        if !host.goes_on() {
            return;
        }
    }
    host.act();
    host.rest_on();
}

/// C13: a program reserves address space around its code as a runtime does.
pub(super) fn reserved(host: &mut Hostile<'_>) {
    host.act();
    host.rest_on();
}
