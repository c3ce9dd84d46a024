//! Attacks by names of files.

use crate::hostile::Hostile;

/// B3.3: one open file, 4,000 directories deep.
pub(super) fn deep_directories(host: &mut Hostile<'_>) {
    let pid = host.busy();
    let mut path = String::from("/tmp");
    for _ in 0..4000 {
        path.push_str("/d");
    }
    path.push_str("/file");
    host.machine().open(pid, &path);
    host.act();
    host.rest_on();
}

/// C4: 1,400 open files with names of almost 4 KiB each.
pub(super) fn long_names(host: &mut Hostile<'_>) {
    let pid = host.busy();
    let folder = format!("/{}", "n".repeat(249)).repeat(15);
    for number in 0..1400 {
        host.machine().open(pid, &format!("{folder}/{}{number}", "f".repeat(200)));
        if number % 64 == 0 && !host.goes_on() {
            return;
        }
    }
    host.act();
    host.rest_on();
}
