//! Memory behind a DMA engine, tested with the stand-in for DOCA. Whatever a device does, bytes
//! marked as read are right, losses are counted, and nothing waits forever.
#![cfg(feature = "doca")]
#![allow(clippy::unwrap_used, reason = "a test may")]
#![expect(clippy::single_range_in_vec_init, reason = "lists of regions with one region")]
#![expect(clippy::reversed_empty_ranges, reason = "regions that cannot be")]

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use panoptes_decoders::address::PhysicalAddress;
use panoptes_rig::Random;
use panoptes_rig::standin::Standin;
use panoptes_sources::doca::{
    DocaCounts, DocaError, DocaMemory, FunctionKind, Library, PATIENCE, devices,
};
use panoptes_sources::{MachineSource as _, MemorySource as _, ReadOutcome, ReadRequest};

const BYTES: usize = 4 << 20;
const REGIONS: [Range<u64>; 3] = [0x1000..0x9_f000, 0x10_0000..0x20_0000, 0x20_0000..0x30_0000];

/// A device `dma0` with the function `VUID`, whose memory is a file of noise.
struct Setup {
    standin: Standin,
    memory: Vec<u8>,
}

impl Setup {
    fn new(faults: &str) -> Self {
        Self::with_options(faults, &[])
    }

    fn with_options(faults: &str, options: &[&str]) -> Self {
        let mut random = Random(7);
        let memory: Vec<u8> = (0..BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        // The stand-in reads its settings at the first call, so the file may be written later.
        let standin = Standin::with_options("", options).unwrap();
        let path = standin.folder().join("memory");
        std::fs::write(&path, &memory).unwrap();
        let mut settings = "device dma0 0000:03:00.0\n".to_owned();
        writeln!(settings, "function VUID VF {}\n{faults}", path.display()).unwrap();
        std::fs::write(standin.folder().join("standin.conf"), settings).unwrap();
        Self { standin, memory }
    }

    fn open(&self) -> Result<DocaMemory, DocaError> {
        self.open_with(Duration::from_millis(100))
    }

    fn open_with(&self, patience: Duration) -> Result<DocaMemory, DocaError> {
        let library = Library::load(Some(&self.standin.library()))?;
        DocaMemory::open(&library, "dma0", "VUID", &REGIONS, patience)
    }

    /// Requests all over the memory and beyond, each with its own target.
    fn requests(&self, random: &mut Random, count: usize) -> (Vec<ReadRequest>, Vec<u8>) {
        let mut target = 0;
        let mut requests = Vec::new();
        for _ in 0..count {
            let length = match random.next() % 16 {
                0 => random.next() % 60_000,
                1..4 => random.next() % 5000,
                _ => random.next() % 300,
            };
            let start = random.next() % (self.memory.len() as u64 - 60_000);
            requests.push(ReadRequest::new(PhysicalAddress(start), length as u32, target));
            target += length as u32;
        }
        (requests, vec![0xee; target as usize])
    }

    /// Reads a batch and checks outcomes and bytes; returns the number of failed requests.
    fn check(&self, source: &mut DocaMemory, random: &mut Random, count: usize) -> u64 {
        let (mut requests, mut arena) = self.requests(random, count);
        let before = source.counts().failed;
        source.read_batch(&mut requests, &mut arena);
        let mut failed = 0;
        for request in &requests {
            let start = request.address.0;
            let end = start + u64::from(request.length);
            let got = &arena[request.target_range(arena.len()).unwrap()];
            let whole = [REGIONS[0].clone(), REGIONS[1].start..REGIONS[2].end];
            let is_backed = request.length == 0
                || whole.iter().any(|region| region.contains(&start) && end <= region.end);
            match request.outcome {
                ReadOutcome::Read => {
                    assert!(is_backed, "{request:?}");
                    assert!(got == &self.memory[start as usize..end as usize], "{request:?}");
                }
                ReadOutcome::NotBacked => {
                    assert!(!is_backed, "{request:?}");
                    assert!(got.iter().all(|byte| *byte == 0), "{request:?}");
                }
                ReadOutcome::Failed => failed += 1,
                ReadOutcome::Pending => panic!("unanswered: {request:?}"),
            }
        }
        assert_eq!(source.counts().failed - before, failed, "the losses are counted");
        failed
    }
}

/// Reads batches from a device with faults; returns the number of failed requests and the counts.
fn run(faults: &str) -> (u64, DocaCounts) {
    let setup = Setup::new(faults);
    let mut source = setup.open().unwrap();
    assert_eq!(source.regions(), [REGIONS[0].clone(), 0x10_0000..0x30_0000]);
    let mut random = Random(1);
    let failed = (0..5).map(|_| setup.check(&mut source, &mut random, 300)).sum();
    (failed, source.counts())
}

#[test]
fn requests_are_read_and_neighbours_share_copies() {
    let (failed, counts) = run("");
    assert_eq!(failed, 0);
    assert!(counts.copies < 1500, "{counts:?}");
    let mut clean = DocaCounts::default();
    (clean.copies, clean.bytes) = (counts.copies, counts.bytes);
    assert_eq!(counts, clean);
}

#[test]
fn the_limits_of_a_device_are_respected() {
    let (failed, counts) = run("tasks 1\ncopy_bytes 100");
    assert_eq!(failed, 0);
    assert!(counts.bytes <= counts.copies * 100, "{counts:?}");
}

#[test]
fn newer_libraries_are_used_through_their_endpoint() {
    let setup = Setup::with_options("", &["-DSTANDIN_ENDPOINTS"]);
    let mut source = setup.open().unwrap();
    assert_eq!(setup.check(&mut source, &mut Random(2), 100), 0);
}

#[test]
fn copies_that_sometimes_fail_are_retried() {
    let (failed, counts) = run("error_every 41");
    assert_eq!(failed, 0, "{counts:?}");
    assert!(counts.errors > 10, "{counts:?}");
}

#[test]
fn copies_that_always_fail_are_given_up() {
    let (failed, counts) = run("error_every 1");
    assert!(failed > 500 && counts.copies == 0, "{failed}, {counts:?}");
}

#[test]
fn bad_memory_fails_only_requests_for_it() {
    let setup = Setup::new("bad 0x150010 0x150017");
    let mut source = setup.open().unwrap();
    let mut requests: Vec<ReadRequest> = (0..64_u32)
        .map(|index| {
            ReadRequest::new(PhysicalAddress(0x15_0000 + u64::from(index) * 4), 4, index * 4)
        })
        .collect();
    source.read_batch(&mut requests, &mut [0; 256]);
    let failed: Vec<u64> = requests
        .iter()
        .filter(|request| request.outcome != ReadOutcome::Read)
        .map(|request| request.address.0)
        .collect();
    assert_eq!(failed, [0x15_0010, 0x15_0014]);
    assert_eq!(source.counts().failed, 2);
}

#[test]
fn short_copies_do_not_count_as_successful() {
    let (failed, counts) = run("short_every 41");
    assert_eq!(failed, 0, "{counts:?}");
    assert!(counts.short > 10, "{counts:?}");
    let (failed, counts) = run("short_every 1");
    assert!(failed > 500 && counts.copies == 0 && counts.short > 500, "{failed}, {counts:?}");
}

#[test]
fn slow_copies_are_waited_for() {
    let (failed, counts) = run("slow_every 40 20000");
    assert_eq!((failed, counts.overdue), (0, 0));
}

#[test]
fn a_device_without_room_is_retried_but_not_forever() {
    let (failed, counts) = run("again_every 2");
    assert!(failed == 0 && counts.full > 10, "{failed}, {counts:?}");
    let begin = Instant::now();
    let (failed, _) = run("again_every 1");
    assert!(failed > 500, "{failed}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn submissions_that_are_refused_are_counted() {
    let (failed, counts) = run("refuse_every 5");
    assert!(failed == 0 && counts.refused > 10, "{failed}, {counts:?}");
    let (failed, counts) = run("refuse_every 1");
    assert!(failed > 500 && counts.copies == 0, "{failed}, {counts:?}");
}

#[test]
fn copies_that_never_complete_fail_and_the_device_is_revived() {
    let setup = Setup::new("lost_every 100");
    let mut source = setup.open().unwrap();
    let mut random = Random(3);
    let begin = Instant::now();
    let failed = setup.check(&mut source, &mut random, 300);
    assert!(failed > 0 && failed < 300, "{failed}");
    assert!(source.counts().overdue > 0 && !source.answers(), "{:?}", source.counts());
    // Until the next attempt to revive the device, all requests fail at once.
    assert!(setup.check(&mut source, &mut random, 300) > 100);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(setup.check(&mut source, &mut random, 20), 0);
    assert!(source.answers() && source.counts().restarts == 1, "{:?}", source.counts());
}

#[test]
fn a_context_that_stops_is_restarted() {
    let setup = Setup::new("stop_after 150");
    let mut source = setup.open().unwrap();
    let mut random = Random(4);
    let failed: u64 = (0..3).map(|_| setup.check(&mut source, &mut random, 100)).sum();
    assert!(failed > 0 && !source.answers(), "{failed}");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(setup.check(&mut source, &mut random, 300), 0);
    assert_eq!(source.counts().restarts, 1);
}

#[test]
fn a_dead_device_costs_its_patience_once_and_does_not_hang_at_the_end() {
    let begin = Instant::now();
    let (failed, counts) = run("dead_after 50");
    assert!(failed > 500 && counts.overdue > 0, "{failed}, {counts:?}");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

/// Contexts of a device that does not stop them keep their buffers, and each retry makes another.
#[test]
fn a_dead_device_keeps_a_bounded_number_of_contexts_until_it_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let alive = folder.path().join("alive");
    let setup = Setup::new(&format!("dead_after 50\nalive {}", alive.display()));
    let mut random = Random(3);
    let mut opened = 0;
    let stuck = loop {
        match setup.open() {
            Ok(mut source) => setup.check(&mut source, &mut random, 100),
            Err(error) => break error,
        };
        opened += 1;
        assert!(opened < 10, "each retry left a context behind");
    };
    assert_eq!(stuck, DocaError::Stuck { device: "dma0".to_owned(), contexts: 2 });
    std::fs::write(&alive, "").unwrap();
    let begin = Instant::now();
    while setup.open().is_err() {
        assert!(begin.elapsed() < Duration::from_mins(1), "the device answers again");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(setup.check(&mut setup.open().unwrap(), &mut random, 100), 0);
}

/// The time in which the calling thread was neither running nor ready to run, in milliseconds,
/// during `act`: what other systems of the thread would wait for.
fn asleep_ms(act: impl FnOnce()) -> u64 {
    // Runs and waits for a processor, in nanoseconds (Documentation/scheduler/sched-stats.rst).
    let awake = || -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split_ascii_whitespace().take(2).map(|word| word.parse::<u64>().unwrap()).sum()
    };
    let (begin, before) = (Instant::now(), awake());
    act();
    let asleep = begin.elapsed().saturating_sub(Duration::from_nanos(awake() - before));
    asleep.as_millis() as u64
}

/// A device that cannot be stopped, whose restart thus never ends.
#[test]
fn a_dead_device_costs_a_watched_thread_next_to_nothing() {
    let setup = Setup::new("dead_after 50");
    let mut source = setup.open_with(PATIENCE).unwrap();
    source.refresh();
    let mut random = Random(6);
    let mut failed = 0;
    // The first scan waits for a turn of 20 ms.
    let first = asleep_ms(|| failed = setup.check(&mut source, &mut random, 300));
    assert!(failed > 100 && first < 100, "{failed} {first}");
    assert!(source.counts().overdue > 0 && !source.answers(), "{:?}", source.counts());
    std::thread::sleep(PATIENCE + Duration::from_millis(200));
    // From now on the device is restarted, scan by scan.
    let rest = asleep_ms(|| {
        for _ in 0..100 {
            source.refresh();
            assert!(setup.check(&mut source, &mut random, 20) > 0);
        }
    });
    assert!(rest < 100 && source.counts().restarts == 1, "{rest} {:?}", source.counts());
    // Dropping it leaves the rest to another thread.
    assert!(asleep_ms(|| drop(source)) < 100);
}

/// A device that can be restarted, and completes no copy then either, does not get a turn after
/// each restart.
#[test]
fn a_device_that_is_restarted_in_vain_costs_a_watched_thread_next_to_nothing() {
    let setup = Setup::new("lost_every 1");
    let mut source = setup.open().unwrap();
    source.refresh();
    let mut random = Random(7);
    let mut scan = || {
        source.refresh();
        assert!(setup.check(&mut source, &mut random, 20) > 0);
        source.counts().restarts
    };
    // The first scan waits for its turn.
    scan();
    // The quickest of some restarts counts: the machine may have other work. A turn is 20 ms.
    let rest = (1..=4).map(|restarts| {
        std::thread::sleep(Duration::from_millis(1100));
        let begin = Instant::now();
        let last = (0..10).map(|_| scan()).last();
        let took = begin.elapsed();
        assert_eq!(last, Some(restarts));
        took
    });
    let rest = rest.min().unwrap();
    assert!(rest < Duration::from_millis(10), "{rest:?}");
}

/// A search for a kernel has thousands of batches, and no other system waits for it.
#[test]
fn a_device_that_is_restarted_in_vain_does_not_hold_up_a_search() {
    let setup = Setup::new("lost_every 1");
    let mut source = setup.open_with(PATIENCE).unwrap();
    let (mut random, begin) = (Random(8), Instant::now());
    while begin.elapsed() < PATIENCE * 2 {
        assert!(setup.check(&mut source, &mut random, 20) > 0);
    }
    let begin = Instant::now();
    for _ in 0..100 {
        assert!(setup.check(&mut source, &mut random, 20) > 0);
    }
    assert!(source.counts().restarts > 0, "{:?}", source.counts());
    assert!(begin.elapsed() < PATIENCE * 2, "{:?}", begin.elapsed());
}

#[test]
fn a_device_that_was_only_slow_is_used_again_without_a_restart() {
    let setup = Setup::new("slow_every 100 60000");
    let mut source = setup.open_with(PATIENCE).unwrap();
    source.refresh();
    let mut random = Random(8);
    assert!(setup.check(&mut source, &mut random, 300) > 0);
    assert!(!source.answers(), "{:?}", source.counts());
    // One of the next copies may be slow again.
    let is_used = (0..20).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        source.refresh();
        setup.check(&mut source, &mut random, 1) == 0 && source.answers()
    });
    assert!(is_used && source.counts().restarts == 0, "{:?}", source.counts());
}

/// A device that is late in each batch does not get a turn for each.
#[test]
fn all_batches_of_a_scan_share_one_turn() {
    let setup = Setup::new("slow_every 20 8000");
    let mut source = setup.open_with(PATIENCE).unwrap();
    source.refresh();
    let mut random = Random(9);
    let asleep = asleep_ms(|| {
        for _ in 0..100 {
            setup.check(&mut source, &mut random, 40);
        }
    });
    assert!(asleep < 200, "{asleep} {:?}", source.counts());
    let is_used = (0..20).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        source.refresh();
        setup.check(&mut source, &mut random, 1) == 0 && source.answers()
    });
    assert!(is_used, "{:?}", source.counts());
}

/// All faults together, one after the other and at random: bytes marked as read are always right.
#[test]
fn no_wrong_byte_is_ever_returned() {
    let mut random = Random(5);
    for _ in 0..20 {
        let mut faults = String::new();
        for fault in ["error", "short", "again", "refuse", "lost"] {
            if random.below(3) == 0 {
                let rarely = if fault == "lost" { 300 } else { 3 };
                writeln!(faults, "{fault}_every {}", rarely + random.next() % 50).unwrap();
            }
        }
        if random.below(2) == 0 {
            writeln!(faults, "slow_every {} 2000", 5 + random.next() % 50).unwrap();
        }
        writeln!(faults, "tasks {}", 1 + random.next() % 64).unwrap();
        writeln!(faults, "copy_bytes {}", 64 + random.next() % 20_000).unwrap();
        let setup = Setup::new(&faults);
        let mut source = setup.open().unwrap();
        let mut again = Random(random.next());
        for _ in 0..3 {
            setup.check(&mut source, &mut again, 100);
        }
    }
}

#[test]
fn errors_of_opening_give_the_reason() {
    let setup =
        Setup::new("function BARE PF\ndevice dma1 0000:04:00.0\nmute\ndevice dma2 0000:05:00.0");
    let library = Library::load(Some(&setup.standin.library())).unwrap();
    let check = |device, vuid, regions: &[Range<u64>], words: &str| {
        let opened = DocaMemory::open(&library, device, vuid, regions, PATIENCE);
        let message = opened.unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    check("dma9", "VUID", &REGIONS, "there are dma0, dma1, dma2");
    check("dma0", "OTHER", &REGIONS, "no function with the VUID OTHER among its 2");
    check("dma1", "VUID", &REGIONS, "copies no memory");
    check("dma2", "VUID", &REGIONS, "doca_devinfo_rep_create_list failed: Not supported");
    check("dma0", "VUID", &[], "memory_regions_path");
    check("dma0", "VUID", &[0x2000..0x1000], "memory region 0 is empty");
    check("dma0", "BARE", &REGIONS, "doca_devemu_pci_dev_create failed: Invalid input");
}

#[test]
fn a_missing_function_of_an_old_library_is_reported() {
    let setup = Setup::with_options("", &["-Ddoca_task_submit=doca_workq_submit"]);
    let message = setup.open().unwrap_err().to_string();
    assert!(message.contains("3.2.0-standin has no doca_task_submit: DOCA 2.5"), "{message}");
    let setup = Setup::with_options("", &["-Ddoca_devemu_pci_type_create=doca_other"]);
    let message = setup.open().unwrap_err().to_string();
    assert!(message.contains("device emulation library"), "{message}");
}

#[test]
fn every_function_of_every_device_is_listed() {
    let setup = Setup::new(
        "function PF0 PF\nfunctions MT2333XZ06YAMLNXS0D0F0VF 64\ndevice dma1 0000:04:00.0\nmute",
    );
    let library = Library::load(Some(&setup.standin.library())).unwrap();
    assert_eq!(library.version(), Some("3.2.0-standin"));
    let found = devices(&library).unwrap();
    let names: Vec<_> = found.iter().map(|device| (&*device.name, device.copies_memory)).collect();
    assert_eq!(names, [("dma0", true), ("dma1", false)]);
    assert_eq!(found[0].pci_address.as_deref(), Some("0000:03:00.0"));
    let functions = found[0].functions.as_ref().unwrap();
    assert_eq!(functions.len(), 66);
    assert_eq!(functions[1].kind, Some(FunctionKind::Physical));
    assert_eq!(functions[65].vuid, "MT2333XZ06YAMLNXS0D0F0VF63");
    assert_eq!(functions[65].pci_address.as_deref(), Some("0000:3b:08.1"));
    assert!(found[1].functions.is_err());
}

#[test]
fn functions_beyond_the_limit_are_left_out_and_counted() {
    let setup = Setup::new("functions VF 1100\ndevice dma1 0000:04:00.0\nfunction PF0 PF");
    let library = Library::load(Some(&setup.standin.library())).unwrap();
    let found = devices(&library).unwrap();
    let counts = |device: &panoptes_sources::doca::DocaDevice| {
        (device.functions.as_ref().unwrap().len(), device.left_out)
    };
    assert_eq!((counts(&found[0]), counts(&found[1])), ((1024, 77), (1, 0)));
}

/// A function that is not listed any more, or whose memory fails, fails for itself only.
#[test]
fn a_function_that_is_gone_is_not_listed_and_its_reads_fail() {
    let setup = Setup::new("");
    let folder = setup.standin.folder();
    let memory = folder.join("memory");
    let settings = format!(
        "device dma0 0000:03:00.0\nbatch_us 20\nfunction VUID VF {0}\nfunctions B 2 {0}\n\
         absent VUID {1}\nfailing B0 {1}\n",
        memory.display(),
        folder.join("gone").display()
    );
    std::fs::write(folder.join("standin.conf"), settings).unwrap();
    let library = Library::load(Some(&setup.standin.library())).unwrap();
    let open = |vuid| DocaMemory::open(&library, "dma0", vuid, &REGIONS, PATIENCE).unwrap();
    let mut sources = ["VUID", "B0", "B1"].map(open);
    let mut random = Random(11);
    let mut failed = || {
        let mut counts = [0; 3];
        for (source, count) in sources.iter_mut().zip(&mut counts) {
            *count = setup.check(source, &mut random, 50);
        }
        counts
    };
    assert_eq!(failed(), [0; 3]);
    std::fs::write(folder.join("gone"), "").unwrap();
    let counts = failed();
    assert!(counts[0] > 0 && counts[1] > 0 && counts[2] == 0, "{counts:?}");
    let listed = devices(&library).unwrap().remove(0).functions.unwrap();
    let names: Vec<_> = listed.iter().map(|function| &*function.vuid).collect();
    assert_eq!(names, ["B0", "B1"]);
}

#[test]
fn a_machine_without_devices_has_none() {
    let standin = Standin::new("").unwrap();
    let library = Library::load(Some(&standin.library())).unwrap();
    assert_eq!(devices(&library), Ok(vec![]));
    let missing = Library::load(Some(Path::new("/nonexistent")));
    assert!(matches!(missing, Err(DocaError::Load { .. })));
}
