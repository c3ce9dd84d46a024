//! Damage from a seed ([`Fault`]): of which kinds and how much.
#![expect(clippy::unwrap_used, reason = "also in what the tests share")]
#![expect(clippy::single_range_in_vec_init, reason = "lists of regions with one region")]

#[path = "common/fault.rs"]
mod fault;

use fault::{Fault, FaultCounts, FaultRates};
use panoptes_decoders::address::PhysicalAddress;
use panoptes_sources::{MappedMemory, MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest, Replay};

const PAGES: u64 = 1024;

fn memory(byte: u8) -> Replay {
    let pages = vec![byte; (PAGES * PAGE_BYTES) as usize];
    Replay::from_pages(vec![0..PAGES * PAGE_BYTES], (0..PAGES).collect(), pages).unwrap()
}

/// Reads 64 bytes in the middle of every page.
fn sweep(source: &mut impl MemorySource) -> (Vec<ReadOutcome>, Vec<u8>) {
    let mut arena = vec![0; PAGES as usize * 64];
    let mut requests: Vec<ReadRequest> = (0..PAGES)
        .map(|page| {
            ReadRequest::new(PhysicalAddress(page * PAGE_BYTES + 2000), 64, page as u32 * 64)
        })
        .collect();
    source.read_batch(&mut requests, &mut arena);
    (requests.iter().map(|request| request.outcome).collect(), arena)
}

#[test]
fn without_rates_nothing_is_damaged() {
    let mut fault = Fault::new(memory(7), 1, FaultRates::default());
    assert_eq!(sweep(&mut fault), sweep(&mut memory(7)));
    assert_eq!(fault.counts(), FaultCounts::default());
}

#[test]
fn the_same_seed_gives_the_same_damage() {
    let rates = FaultRates {
        not_backed_pages: 50_000,
        zeroed_pages: 50_000,
        overwritten_pages: 50_000,
        failed_requests: 50_000,
        flipped_requests: 50_000,
        torn_requests: 50_000,
    };
    let run = |seed| {
        let mut fault = Fault::new(memory(7), seed, rates);
        (sweep(&mut fault), sweep(&mut fault), fault.counts())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
    let counts = run(5).2;
    // 2048 requests at 5 %: 102 expected, standard deviation 10 (of pages 14, counted twice).
    for count in [
        counts.not_backed_pages,
        counts.zeroed_pages,
        counts.overwritten_pages,
        counts.failed_requests,
        counts.flipped_requests,
    ] {
        assert!((40..170).contains(&count), "{counts:?}");
    }
    assert_eq!(counts.torn_requests, 0, "nothing changed below");
}

#[test]
fn damage_to_pages_lasts_and_is_the_same_in_every_cut() {
    let rates = FaultRates {
        not_backed_pages: 100_000,
        zeroed_pages: 100_000,
        overwritten_pages: 500_000,
        ..FaultRates::default()
    };
    let mut fault = Fault::new(memory(7), 9, rates);
    assert_eq!(sweep(&mut fault), sweep(&mut fault));
    let mut struck = false;
    for page in 0..64 {
        let mut whole = [0; PAGE_BYTES as usize];
        if !fault.read_exact(PhysicalAddress(page * PAGE_BYTES), &mut whole) {
            continue;
        }
        struck |= whole.iter().any(|byte| !matches!(byte, 0 | 7));
        for offset in (0..PAGE_BYTES).step_by(37) {
            let mut byte = [0];
            assert!(fault.read_exact(PhysicalAddress(page * PAGE_BYTES + offset), &mut byte));
            assert_eq!(byte[0], whole[offset as usize]);
        }
    }
    assert!(struck);
}

#[test]
fn a_torn_read_is_half_new_and_half_old() {
    let rates = FaultRates { torn_requests: 1_000_000, ..FaultRates::default() };
    let mut fault = Fault::new(memory(1), 3, rates);
    let mut bytes = [0; 8];
    assert!(fault.read_exact(PhysicalAddress(64), &mut bytes));
    assert_eq!(bytes, [1; 8]);
    assert!(fault.source_mut().write(PhysicalAddress(0), &[2; 4096]));
    assert!(fault.read_exact(PhysicalAddress(64), &mut bytes));
    assert_eq!(bytes, [2, 2, 2, 2, 1, 1, 1, 1]);
    assert!(fault.read_exact(PhysicalAddress(64), &mut bytes));
    assert_eq!(bytes, [2; 8]);
    assert_eq!(fault.counts().torn_requests, 1);
}

#[test]
fn a_rate_of_a_million_always_strikes() {
    let failed = FaultRates { failed_requests: 1_000_000, ..FaultRates::default() };
    assert!(
        sweep(&mut Fault::new(memory(1), 0, failed)).0.iter().all(|o| *o == ReadOutcome::Failed)
    );
    let holes = FaultRates { not_backed_pages: 1_000_000, ..FaultRates::default() };
    let (outcomes, bytes) = sweep(&mut Fault::new(memory(1), 0, holes));
    assert!(outcomes.iter().all(|outcome| *outcome == ReadOutcome::NotBacked));
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn the_hook_is_called_before_each_batch() {
    let calls = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = calls.clone();
    let mut fault = Fault::new(memory(1), 0, FaultRates::default())
        .with_hook(Box::new(move |batch| seen.lock().unwrap().push(batch)));
    sweep(&mut fault);
    sweep(&mut fault);
    assert_eq!(*calls.lock().unwrap(), [0, 1]);
}

#[test]
fn the_memory_below_can_be_moved() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(0x8000).unwrap();
    let memory = MappedMemory::open(file.path()).unwrap();
    let mut fault = Fault::new(memory, 1, FaultRates::default());
    assert!(fault.move_by(0x4000_0000));
    assert!(fault.read_exact(PhysicalAddress(0x4000_0000), &mut [0; 8]));
}
