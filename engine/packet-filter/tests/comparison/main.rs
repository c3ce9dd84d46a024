//! Filters keep what `tcpdump` keeps, are the programs that it shows, and run as in the kernel.

mod captures;
mod expressions;
mod kernel;
mod tcpdump;

use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use captures::{ETHERNET, RAW};
use panoptes_packet_filter::{FilterOptions, PacketFilter};

/// Runs a check for each of the numbers below `count`, on all processors, and fails with what the
/// checks find wrong.
fn each(count: usize, check: impl Fn(usize) -> Option<String> + Sync) {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    if let Some(problem) = check(number) {
                        wrong.lock().expect("no thread panics").push(problem);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no thread has panicked");
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn an_empty_expression_keeps_everything() {
    for expression in ["", " \t"] {
        let filter =
            PacketFilter::compile(expression, &FilterOptions::new(ETHERNET)).expect("a filter");
        let output = tcpdump::run(&["-d", "-y", "EN10MB"], Stdio::null());
        assert_eq!(filter.dump(), String::from_utf8_lossy(&output.stdout));
        assert!(filter.matches(&[], 0));
    }
}

#[test]
fn the_program_has_the_snap_length() {
    for (snap_length, expected) in [(96, 96), (0, 262_144)] {
        let options = FilterOptions { snap_length, ..FilterOptions::new(ETHERNET) };
        let filter = PacketFilter::compile("ip", &options).expect("a filter");
        let returned: Vec<u32> = filter.instructions().iter().map(|one| one.constant).collect();
        assert_eq!(returned[2..], [expected, 0]);
    }
}

#[test]
fn broadcasts_depend_on_the_mask() {
    let filter = |netmask| {
        let options = FilterOptions { netmask, ..FilterOptions::new(RAW) };
        PacketFilter::compile("ip broadcast", &options).expect("a filter")
    };
    let mut packet = [0; 20];
    packet[0] = 0x45;
    packet[16..].copy_from_slice(&[10, 1, 0, 255]);
    assert!(!filter(0).matches(&packet, 20));
    assert!(filter(0xffff_ff00).matches(&packet, 20));
}

#[test]
fn wrong_expressions_are_reported_in_one_line() {
    for (expression, part) in [
        ("tcp and\nudp or", "syntax error"),
        ("tcp\0", "NUL"),
        ("host nobody.invalid", "unknown host"),
        ("port 70000", "70000"),
    ] {
        let error =
            PacketFilter::compile(expression, &FilterOptions::new(ETHERNET)).expect_err("wrong");
        let message = error.to_string();
        assert!(message.contains(part), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn threads_compile_at_the_same_time() {
    each(400, |number| {
        let port = number + 1;
        let expression = format!("tcp dst port {port}");
        let filter =
            PacketFilter::compile(&expression, &FilterOptions::new(RAW)).expect("a filter");
        let dump = filter.dump();
        (!dump.contains(&format!("#{port:#x} "))).then_some(dump)
    });
}
