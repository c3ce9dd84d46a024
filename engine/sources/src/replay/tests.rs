//! Recorded images: round trips, and damaged images.

use proptest::prelude::*;

use super::*;

/// Pages 1, 2, 3, 9 of a small memory and two far away, each full of its own byte.
fn memory() -> Replay {
    let frames = vec![1, 2, 3, 9, 0x4_0000, 0x4_0001];
    let pages = frames.iter().flat_map(|frame| [(frame % 251) as u8; PAGE]).collect();
    Replay::from_pages(vec![0..0x1_0000, 0x4000_0000..0x4000_4000], frames, pages).unwrap()
}

fn image_of(memory: &Replay) -> Vec<u8> {
    let mut image = Vec::new();
    memory.write_image(&mut image).unwrap();
    image
}

/// Writes the correct checksum to a changed image.
fn seal(image: &mut [u8]) {
    if let Some(end) = image.len().checked_sub(8) {
        let sum = image::checksum_of(&image[..end]);
        image[end..].copy_from_slice(&sum.to_le_bytes());
    }
}

#[test]
fn an_image_is_read_as_it_was_written() {
    let image = image_of(&memory());
    let replay = Replay::from_bytes(image.clone()).unwrap();
    assert_eq!(replay.regions(), memory().regions());
    assert!(replay.page_addresses().eq(memory().page_addresses()));
    assert_eq!(image_of(&replay), image);
}

#[test]
fn requests_are_answered_page_by_page() {
    let cases = [
        (0x1000, 16, ReadOutcome::Read),
        (0x1ff8, 16, ReadOutcome::Read),
        (0x1001, 0x2fff, ReadOutcome::Read),
        (0x1001, 0x3000, ReadOutcome::NotBacked),
        (0xfff, 2, ReadOutcome::NotBacked),
        (0x4000_1fff, 1, ReadOutcome::Read),
        (0x4000_1fff, 2, ReadOutcome::NotBacked),
        (u64::MAX, 1, ReadOutcome::NotBacked),
        (u64::MAX, 2, ReadOutcome::NotBacked),
        (u64::MAX, 0, ReadOutcome::Read),
    ];
    let mut replay = memory();
    for (address, length, outcome) in cases {
        let mut arena = vec![0xee; 0x4000];
        let mut requests = [ReadRequest::new(PhysicalAddress(address), length, 8)];
        replay.read_batch(&mut requests, &mut arena);
        assert_eq!(requests[0].outcome, outcome, "{address:#x} {length}");
        for (at, byte) in arena.iter().enumerate() {
            let inside = (8..8 + length as usize).contains(&at);
            let expected = match outcome {
                _ if !inside => 0xee,
                ReadOutcome::Read => ((address + at as u64 - 8) / PAGE_BYTES % 251) as u8,
                _ => 0,
            };
            assert_eq!(*byte, expected, "{address:#x} {length} {at}");
        }
    }
    let mut requests = [ReadRequest::new(PhysicalAddress(0x1000), 9, 0)];
    replay.read_batch(&mut requests, &mut [0; 8]);
    assert_eq!(requests[0].outcome, ReadOutcome::Failed);
}

#[test]
fn next_data_gives_runs_of_pages() {
    let mut replay = memory();
    let mut runs = Vec::new();
    let mut from = 0;
    while let Some(run) = replay.next_data(PhysicalAddress(from)) {
        from = run.end;
        runs.push(run);
    }
    assert_eq!(runs, [0x1000..0x4000, 0x9000..0xa000, 0x4000_0000..0x4000_2000]);
    assert_eq!(replay.next_data(PhysicalAddress(0x2345)), Some(0x2345..0x4000));
    assert_eq!(replay.next_data(PhysicalAddress(u64::MAX)), None);
}

#[test]
fn pages_can_be_changed() {
    let mut replay = memory();
    assert!(replay.write(PhysicalAddress(0x2ffe), &[1, 2, 3, 4]));
    assert!(!replay.write(PhysicalAddress(0x3ffe), &[9, 9, 9, 9]), "page 4 is not backed");
    assert!(!replay.write(PhysicalAddress(u64::MAX), &[9, 9]));
    let mut bytes = [0; 4];
    assert!(replay.read_exact(PhysicalAddress(0x2ffe), &mut bytes));
    assert_eq!(bytes, [1, 2, 3, 4]);
    assert!(replay.read_exact(PhysicalAddress(0x3ffe), &mut bytes[..2]));
    assert_eq!(bytes[..2], [3, 3]);
    for (address, page) in replay.pages_mut() {
        page.fill((address.0 >> 12) as u8 ^ 0xff);
    }
    assert!(replay.read_exact(PhysicalAddress(0x9000), &mut bytes));
    assert_eq!(bytes, [9 ^ 0xff; 4]);
}

#[test]
fn damaged_images_give_the_right_problem() {
    let good = image_of(&memory());
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: ImageProblem| {
        let mut image = good.clone();
        change(&mut image);
        assert_eq!(Replay::from_bytes(image).unwrap_err(), expected);
    };
    check(&|image| image.clear(), ImageProblem::Magic);
    check(&|image| image[3] = 0, ImageProblem::Magic);
    check(&|image| image[8] = 2, ImageProblem::Version(2));
    check(&|image| image[13] = 0, ImageProblem::PageSize(0));
    let found = good.len() as u64;
    check(&|image| image.truncate(20), ImageProblem::Length { expected: 32, found: 20 });
    let short = ImageProblem::Length { expected: found, found: found - 1 };
    check(&|image| image.truncate(good.len() - 1), short);
    let long = ImageProblem::Length { expected: found, found: found + 1 };
    check(&|image| image.push(0), long);
    check(&|image| image[24..32].fill(0xff), ImageProblem::Overflow { found });
    check(&|image| image[16..24].fill(0xff), ImageProblem::Region(4096));
    check(&|image| image[200] ^= 0x10, ImageProblem::Checksum);
    // Regions are at 32 and 48, frames from 64 on.
    let sealed = |at: usize, value: u64, expected| {
        check(
            &|image| {
                image[at..at + 8].copy_from_slice(&value.to_le_bytes());
                seal(image);
            },
            expected,
        );
    };
    sealed(32, 0x800, ImageProblem::Region(0));
    sealed(40, 0, ImageProblem::Region(0));
    sealed(48, 0xf000, ImageProblem::Region(1));
    sealed(64, 2, ImageProblem::Frame(1));
    sealed(64, 0x100, ImageProblem::Frame(0));
    sealed(104, u64::MAX, ImageProblem::Frame(5));
}

proptest! {
    #[test]
    fn any_bytes_are_an_image_or_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        cutting in any::<bool>(),
    ) {
        let mut image = image_of(&memory());
        for (at, byte) in changes {
            // Half of the changes hit the tables, which are a hundredth of the image.
            let at = at.index(image.len() * 2);
            let at = if at < image.len() { at } else { at % 112 };
            image[at] = byte;
        }
        if cutting {
            image.truncate(cut.index(image.len()));
        }
        seal(&mut image);
        if let Ok(mut replay) = Replay::from_bytes(image) {
            let addresses: Vec<PhysicalAddress> = replay.page_addresses().collect();
            let mut from = 0;
            while let Some(run) = replay.next_data(PhysicalAddress(from)) {
                prop_assert!(run.start >= from && run.end > run.start);
                from = run.end;
            }
            for address in addresses {
                prop_assert!(replay.read_exact(address, &mut [0; PAGE]));
            }
        }
    }

    #[test]
    fn the_index_finds_what_a_search_finds(
        mut frames in prop::collection::vec(0_u64..1 << 50, 0..200),
        near in prop::collection::vec(0_u64..500, 0..200),
        asked in prop::collection::vec(0_u64..1 << 51, 20),
    ) {
        frames.extend(near);
        frames.sort_unstable();
        frames.dedup();
        let replay =
            Replay::from_pages(vec![0..1 << 63], frames.clone(), Vec::new()).unwrap();
        for frame in
            asked.iter().chain(&frames).flat_map(|at| [at.saturating_sub(1), *at, at + 1])
        {
            let expected = frames.binary_search(&frame).ok().map(|at| at * PAGE);
            prop_assert_eq!(replay.find(frame), expected);
        }
    }
}
