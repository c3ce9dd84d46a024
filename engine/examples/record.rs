//! Records a sparse image of a machine's memory: the pages that finding its kernel and one scan
//! touch.
//!
//!     cargo run --release -p panoptes-engine --example record -- [--builtin] RAM OUT.image
//!
//! RAM is a raw dump or the memory file of a paused guest. The image, of some megabytes, is enough
//! for discovery and scans; beside it goes `OUT.digest`, what a scan of the whole memory gave. The
//! engine's tests, benches and the fuzz target `walk` take what lies in
//! `~/.cache/panoptes/recorded`. With `--builtin` the built-in tables describe the kernel, so the
//! image contains neither its symbols nor its types, and is much smaller. An image holds the
//! machine's secrets like any other dump, so nobody but its owner may read it (mode 0600).

use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES, ReadRequest};
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::lines::LineWriter;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Kernel, Scope, Walker};
use panoptes_profiles::report::KernelEvidence;
use panoptes_profiles::{DiscoveryOptions, Profile, discover};
use panoptes_sources::{FileSource, Recorder, Replay, create_recording};
use panoptes_tables::HashKey;

#[path = "../tests/common/recorded.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod recorded;

use recorded::Seen;

/// Any key does: it only spreads what is in tables.
const KEY: HashKey = HashKey::new(0x5eed_5eed_5eed_5eed);

/// A source whose sweeps see one page: the search for a kernel is not to be in the image.
struct Narrowed<'s, S> {
    source: &'s mut S,
    page: Range<u64>,
}

impl<S: MemorySource> MemorySource for Narrowed<'_, S> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.source.read_batch(requests, arena);
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        (from.0 < self.page.end).then(|| self.page.start.max(from.0)..self.page.end)
    }
}

fn main() -> ExitCode {
    let mut arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let use_builtin = arguments.first().is_some_and(|word| word.as_os_str() == "--builtin");
    if use_builtin {
        arguments.remove(0);
    }
    let [ram, out] = arguments.as_slice() else {
        eprintln!("usage: record [--builtin] RAM OUT.image");
        return ExitCode::from(2);
    };
    match record(ram, out, &DiscoveryOptions { use_builtin, ..DiscoveryOptions::default() }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("record: {error}");
            ExitCode::FAILURE
        }
    }
}

fn record(ram: &Path, out: &Path, options: &DiscoveryOptions) -> Result<(), Box<dyn Error>> {
    let mut source = FileSource::open(ram)?;
    let found = discover(&mut source, options, &mut ())?;
    if found.trace != KernelEvidence::Vmcoreinfo {
        return Err(
            "this kernel is found by its page tables only: the image would hold all memory".into(),
        );
    }
    let whole = look(&mut source, &kernel_of(&found))?;

    let start = found.found_at.0 & !(PAGE_BYTES - 1);
    let narrowed = Narrowed { source: &mut source, page: start..start + PAGE_BYTES };
    let mut recorder = Recorder::new(narrowed)?;
    let profile = discover(&mut recorder, options, &mut ())?;
    check_same(&found, &profile)?;
    if look(&mut recorder, &kernel_of(&profile))? != whole {
        return Err("two scans differ: pause the machine".into());
    }
    let mut image = Vec::new();
    let written = recorder.write_image(&mut image)?;

    let mut replay = Replay::from_bytes(image)?;
    let profile = discover(&mut replay, options, &mut ())?;
    check_same(&found, &profile)?;
    if look(&mut replay, &kernel_of(&profile))? != whole {
        return Err("a scan of the image gives something else than one of the memory".into());
    }
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    // The digest first: an image without one would fail the tests, one that is not there is
    // skipped.
    write_whole(&Seen::path(out), |file| Ok(fs::write(file, whole.to_string())?))?;
    write_whole(out, |file| Ok(replay.write_image(&mut create_recording(file)?)?))?;
    println!(
        "{}: Linux {}, {} pages ({:.1} MiB), {} lines",
        out.display(),
        found.release,
        written.pages,
        (written.pages * PAGE_BYTES) as f64 / f64::from(1 << 20),
        whole.lines
    );
    Ok(())
}

fn look<S: MemorySource>(source: &mut S, kernel: &Kernel) -> Result<Seen, Box<dyn Error>> {
    let limits = Limits::default();
    let mut walker = Walker::new(&limits, KEY);
    let snapshot = walker.scan(source, kernel, Scope::ALL)?;
    let losses = snapshot.losses;
    let (seen, counts) = Seen::of(snapshot, kernel, &mut LineWriter::new(&limits));
    if (losses.unreadable, losses.unbounded, losses.dropped) != (0, 0, 0) || counts.unnamed > 0 {
        let unnamed = counts.unnamed;
        return Err(format!("a scan loses something: {losses:?}, {unnamed} names").into());
    }
    Ok(seen)
}

fn check_same(found: &Profile, again: &Profile) -> Result<(), String> {
    let same = again.found_at == found.found_at && again.space == found.space;
    if same { Ok(()) } else { Err(format!("another kernel was found: Linux {}", again.release)) }
}

/// Writes a file so that a reader sees all of it or nothing.
fn write_whole(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(partial);
    write(&partial)?;
    fs::rename(&partial, path)?;
    Ok(())
}
