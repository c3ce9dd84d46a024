//! Guests boot, pause, resume, reset and end; their memory is the file that the rig names.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, Truth, setup};

fn spec(flavor: Flavor) -> GuestSpec {
    setup::ensure().unwrap();
    GuestSpec::new(Kernel::obtain(flavor).unwrap())
}

/// Whether the guest's memory contains some bytes.
fn memory_holds(path: &Path, needle: &[u8]) -> bool {
    let mut file = File::open(path).unwrap();
    let mut chunk = vec![0; 1 << 24];
    loop {
        let got = file.read(&mut chunk).unwrap();
        if got == 0 {
            return false;
        }
        if chunk[..got].windows(needle.len()).any(|window| window == needle) {
            return true;
        }
    }
}

/// Waits until a condition holds; fails with `what` when that takes longer than on any busy host.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn boots_and_is_readable(flavor: Flavor) {
    let spec = spec(flavor);
    let mut guest = Guest::boot(&spec).unwrap();
    println!("{} booted in {:.1} s", spec.kernel.release(), guest.boot_time().as_secs_f64());
    let size = std::fs::metadata(guest.ram_path()).unwrap().len();
    assert_eq!(size, guest.ram_bytes());
    let release = format!("OSRELEASE={}", spec.kernel.release());
    assert!(memory_holds(guest.ram_path(), release.as_bytes()), "no VMCOREINFO in memory");
    let release = guest.agent("run uname -r").unwrap();
    assert_eq!(release, [spec.kernel.release()]);
    let refused = guest.agent("run exit 3").unwrap_err().to_string();
    assert!(refused.contains("exit status 3"), "{refused}");
    guest.quit().unwrap();
}

#[test]
#[ignore = "boots a guest"]
fn guest_of_6_1_boots() {
    boots_and_is_readable(Flavor::V6_1);
}

#[test]
#[ignore = "boots a guest"]
fn guest_of_6_12_boots() {
    boots_and_is_readable(Flavor::V6_12);
}

#[test]
#[ignore = "boots a guest"]
fn paused_memory_stands_still() {
    let mut guest = Guest::boot(&spec(Flavor::V6_1)).unwrap();
    guest.agent("churn seconds=600").unwrap();
    guest.pause().unwrap();
    let first = std::fs::read(guest.ram_path()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(first == std::fs::read(guest.ram_path()).unwrap(), "memory changed while paused");
    guest.resume().unwrap();
    wait_until("memory does not change when resumed", || {
        first != std::fs::read(guest.ram_path()).unwrap()
    });
}

#[test]
#[ignore = "boots a guest"]
fn guest_answers_again_after_a_reset() {
    let mut guest = Guest::boot(&spec(Flavor::V6_1)).unwrap();
    guest.agent("run touch /tmp/before").unwrap();
    guest.system_reset().unwrap();
    assert!(guest.agent("run ls /tmp/before").is_err());
}

#[test]
#[ignore = "boots a guest"]
fn page_table_levels_are_as_asked_for() {
    for five_level in [false, true] {
        let spec = GuestSpec { five_level, ..spec(Flavor::V6_1) };
        let mut guest = Guest::boot(&spec).unwrap();
        let flags = guest.agent("run grep -m1 flags /proc/cpuinfo").unwrap();
        assert_eq!(flags[0].contains(" la57"), five_level);
    }
}

#[test]
#[ignore = "boots a guest"]
fn several_numa_nodes_are_seen_inside() {
    let spec = GuestSpec { numa_nodes: 2, ..spec(Flavor::V6_12) };
    let mut guest = Guest::boot(&spec).unwrap();
    let nodes = guest.agent("run cat /sys/devices/system/node/has_memory").unwrap();
    assert_eq!(nodes, ["0-1"]);
    let log = guest.agent("run dmesg").unwrap();
    let tables = log.iter().find(|line| line.contains("TCP established hash table")).unwrap();
    assert!(tables.contains("vmalloc"), "{tables}");
}

/// A caller that waits for a guest whose kernel panics fails at once, not at a timeout.
#[test]
#[ignore = "boots a guest"]
fn guest_that_panics_is_dead() {
    let mut guest = Guest::boot(&spec(Flavor::V6_1)).unwrap();
    assert!(!guest.is_dead());
    guest.is_meant_to_die();
    let started = Instant::now();
    guest.agent("run echo c >/proc/sysrq-trigger").unwrap_err();
    assert!(guest.has_died() && guest.is_dead());
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
    assert!(guest.pause().is_err(), "QEMU still runs");
}

/// If another program may have broken the kernel, the guest is left running.
#[test]
#[ignore = "boots a guest"]
fn guest_whose_memory_is_patched_does_not_die_by_itself() {
    let mut guest = Guest::boot(&spec(Flavor::V6_1)).unwrap();
    guest.memory_is_patched();
    guest.agent("run echo 'Oops: 0000 [#1] SMP' >/dev/kmsg; sleep 1").unwrap();
    assert!(!guest.has_died());
    guest.agent("run true").unwrap();
}

#[test]
#[ignore = "boots a guest"]
fn dropped_guest_leaves_nothing_behind() {
    let guest = Guest::boot(&spec(Flavor::V6_1)).unwrap();
    let ram = guest.ram_path().to_owned();
    let process = PathBuf::from(format!("/proc/{}", guest.qemu_pid()));
    assert!(process.exists());
    drop(guest);
    assert!(!process.exists());
    assert!(!ram.exists());
}

#[test]
#[ignore = "boots a guest"]
fn storm_forks_at_the_requested_rate() {
    let mut guest = Guest::boot(&spec(Flavor::V6_1)).unwrap();
    let started = Instant::now();
    guest.agent("storm rate=50 seconds=4").unwrap();
    // A busy host emulates too slowly for the rate; the storm then catches up.
    let mut forked = 0;
    wait_until("the storm does not fork 200 times", || {
        forked = guest.agent("storm-status").unwrap()[0].parse().unwrap();
        forked >= 200
    });
    println!("{forked} forks seen {:.1} s after the start", started.elapsed().as_secs_f64());
    assert_eq!(forked, 200);
    guest.agent("kill-all").unwrap();
    // The last processes that the storm forked end by themselves.
    wait_until("processes of the storm are left", || {
        let truth = Truth::of(&mut guest, "processes").unwrap();
        truth.of_kind("process").all(|p| p["process_parent_process_id"] != 1)
    });
}
