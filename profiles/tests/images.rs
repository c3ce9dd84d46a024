//! Discovery on the memory of real kernels: every `*.raw` in the folder `PANOPTES_IMAGES`.

mod common;

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use common::raw_file::RawFile;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::Members;
use panoptes_decoders::source::{MemorySource, ReadRequest};
use panoptes_profiles::btf::Btf;
use panoptes_profiles::{DiscoveryOptions, Profile, ProfileFile, discover};

fn images() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("PANOPTES_IMAGES") else {
        panoptes_needs::skip::test("PANOPTES_IMAGES");
        return Vec::new();
    };
    let entries = std::fs::read_dir(&folder).expect("PANOPTES_IMAGES can be listed");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let images: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "raw")).collect();
    assert!(!images.is_empty(), "no *.raw in {}", folder.display());
    images
}

fn find(image: &Path, options: &DiscoveryOptions<'_>) -> Profile {
    let mut source = RawFile::open(image).expect("the image can be opened");
    match discover(&mut source, options, &mut ()) {
        Ok(profile) => profile,
        Err(error) => panic!("{}: {error}", image.display()),
    }
}

#[test]
fn every_method_finds_the_same_kernel() {
    for image in images() {
        let first = find(&image, &DiscoveryOptions::default());
        assert!(first.timekeeper.is_some() && first.symbols.sysctl_bootid.is_some());
        assert_ne!(first.space.vmemmap_base, 0);
        let file = [ProfileFile::parse(&first.to_file().to_bytes()).unwrap()];
        for options in [
            DiscoveryOptions { use_kallsyms: false, ..DiscoveryOptions::default() },
            DiscoveryOptions { use_vmcoreinfo: false, ..DiscoveryOptions::default() },
            DiscoveryOptions { files: &file, generate: false, ..DiscoveryOptions::default() },
        ] {
            let other = find(&image, &options);
            assert_eq!(other.release, first.release);
            assert_eq!(other.layouts, first.layouts);
            assert_eq!(other.space.levels, first.space.levels);
            assert_eq!(other.space.root, first.space.root);
            assert_eq!(other.space.direct_map, first.space.direct_map);
            assert_eq!(other.space.vmemmap_base, first.space.vmemmap_base);
            assert_eq!(other.space.image.start, first.space.image.start);
            assert!(other.space.image.end >= first.space.image.end);
            assert_eq!(other.space.image_physical, first.space.image_physical);
            assert_eq!(other.kernel_offset, first.kernel_offset);
            for (actual, expected) in [
                (other.symbols.init_task, first.symbols.init_task),
                (other.symbols.init_pid_ns, first.symbols.init_pid_ns),
                (other.symbols.init_net, first.symbols.init_net),
                (other.symbols.init_uts_ns, first.symbols.init_uts_ns),
                (other.symbols.tcp_hashinfo, first.symbols.tcp_hashinfo),
            ] {
                assert_eq!(actual, expected);
            }
        }
    }
}

/// Changes what was read of each page, by the number of the page.
fn each_page(requests: &[ReadRequest], arena: &mut [u8], mut change: impl FnMut(u64, &mut [u8])) {
    for request in requests {
        let Some(target) = request.target_range(arena.len()) else { continue };
        let bytes = &mut arena[target];
        let mut at = 0;
        while at < bytes.len() {
            let address = request.address.0 + at as u64;
            let end = bytes.len().min(at + (4096 - address % 4096) as usize);
            change(address / 4096, &mut bytes[at..end]);
            at = end;
        }
    }
}

/// Memory in which one page of `one_in` is zeros or noise, the same pages at every read.
struct Damaged {
    source: RawFile,
    seed: u64,
    one_in: u64,
}

impl MemorySource for Damaged {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.source.read_batch(requests, arena);
        each_page(requests, arena, |page, bytes| {
            let noise = (page ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            if noise.is_multiple_of(self.one_in) {
                bytes.fill(if noise & 0x8000 == 0 { 0 } else { noise as u8 });
            }
        });
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }
}

/// Memory in which some pages are zeros, as in a dump that lacks them.
struct Holed {
    source: RawFile,
    pages: HashSet<u64>,
}

impl Holed {
    /// Zeroes so many pages, by a seed.
    fn new(source: RawFile, count: usize, mut seed: u64) -> Self {
        let mut pages = HashSet::new();
        while pages.len() < count {
            seed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            pages.insert((seed >> 16) % (source.region.end / 4096));
        }
        Self { source, pages }
    }
}

impl MemorySource for Holed {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.source.read_batch(requests, arena);
        each_page(requests, arena, |page, bytes| {
            if self.pages.contains(&page) {
                bytes.fill(0);
            }
        });
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }
}

/// With a profile file, for a part of the types in memory is of no use.
#[test]
fn a_dump_may_lack_a_thousand_pages() {
    const TRIES: u64 = 200;
    for image in images() {
        let file = [find(&image, &DiscoveryOptions::default()).to_file()];
        let options =
            DiscoveryOptions { files: &file, generate: false, ..DiscoveryOptions::default() };
        let mut refused = 0;
        for seed in 0..TRIES {
            let source = RawFile::open(&image).expect("the image can be opened");
            if let Err(error) = discover(&mut Holed::new(source, 1000, seed), &options, &mut ()) {
                println!("seed {seed}: {error}");
                refused += 1;
            }
        }
        println!("{}: {refused} of {TRIES} are refused", image.display());
        assert!(refused * 50 <= TRIES, "{refused} of {TRIES}");
    }
}

#[test]
fn damaged_memory_yields_a_kernel_or_an_error() {
    for image in images() {
        for (seed, one_in) in [(1, 4), (2, 32), (3, 256), (4, 2048), (5, 16384)] {
            let source = RawFile::open(&image).expect("the image can be opened");
            let mut damaged = Damaged { source, seed, one_in };
            match discover(&mut damaged, &DiscoveryOptions::default(), &mut ()) {
                Ok(profile) => println!("one page in {one_in}: {}", profile.release),
                Err(error) => println!("one page in {one_in}: {error}"),
            }
        }
    }
}

#[test]
fn a_truncated_file_yields_a_kernel_or_an_error() {
    for image in images() {
        for part in [1, 2, 3, 5, 7] {
            let mut source = RawFile::open(&image).expect("the image can be opened");
            source.region.end = source.region.end / 8 * part + 100;
            match discover(&mut source, &DiscoveryOptions::default(), &mut ()) {
                Ok(profile) => println!("{part} of 8 parts: {}", profile.release),
                Err(error) => println!("{part} of 8 parts: {error}"),
            }
        }
    }
}

#[test]
fn types_of_the_running_kernel_bind() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        panoptes_needs::skip::test("/sys/kernel/btf/vmlinux");
        return;
    };
    let btf = Btf::parse(&bytes).expect("it parses");
    assert!(btf.type_count() > 10_000);
    assert_eq!(btf.enumerator("pid_type", "PIDTYPE_TGID"), Some(1));
    let layouts = Layouts::bind(&btf).expect("every layout binds");
    assert_eq!(layouts.task_struct.comm.size, 16);
    assert_eq!(btf.size_of("list_head"), Some(16));
    assert_eq!(btf.member("task_struct", "tasks.next").map(|next| next.size), Some(8));
}
