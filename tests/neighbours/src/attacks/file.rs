//! Attacks by the file that holds the machine's memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use crate::hostile::Hostile;

const PAGE_BYTES: usize = 4096;

/// A3: the file loses its end and gets it back, forever, as memory that a balloon takes: reads of
/// the mapping raise SIGBUS.
pub(super) fn shrinks(host: &mut Hostile<'_>) {
    // Before the act: the watcher reads what the act adds.
    let cut = host.machine().memory().used();
    host.act();
    let file = File::options().write(true).open(host.path()).expect("the file exists");
    while host.rest(Duration::from_millis(20)) {
        file.set_len(cut).expect("a file can shrink");
        std::thread::sleep(Duration::from_millis(5));
        give_back(host, &file, cut).expect("the folder has room");
    }
}

/// Restores the file from the byte `cut` on.
fn give_back(host: &mut Hostile<'_>, file: &File, cut: u64) -> io::Result<()> {
    let memory = host.machine().memory();
    let (size, used) = (memory.size(), memory.used() as usize);
    // A store that waits to be repeated would otherwise be the new end.
    memory.flush();
    let from = cut as usize;
    for (number, page) in memory.bytes()[from..used].chunks(PAGE_BYTES).enumerate() {
        file.write_all_at(page, (from + number * PAGE_BYTES) as u64)?;
    }
    file.set_len(size)
}
