//! Hashes every regular file that any process of a machine has open or mapped, out of its page
//! cache, and prints a line for each:
//!
//!     cargo run --release -p panoptes-engine --example hashes -- RAM
//!
//! `SHA256 SHA1 MD5 SIZE FORMAT PATH` of a file that could be hashed whole, and of others
//! `partial RESIDENT/PAGES SIZE PATH` or `nothing SIZE PATH`; then what it took. RAM is a guest's
//! memory or a dump.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use panoptes_decoders::text::Hex;
use panoptes_engine::limits::Limits;
use panoptes_engine::page_cache::{
    ContentFacts, ContentFormat, Contents, FileIdentity, HashOutcome, Hashes,
};
use panoptes_engine::path::{PathBuffer, write_file_name};
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Scope, Walker};
use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_sources::FileSource;
use panoptes_tables::HashKey;

/// Bytes in one slice: about half a millisecond.
const SLICE_BYTES: usize = 256 << 10;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: hashes RAM");
        return ExitCode::from(2);
    };
    let mut source = FileSource::open(path.as_ref()).expect("the memory can be opened");
    let options = DiscoveryOptions { use_builtin: true, ..DiscoveryOptions::default() };
    let profile = discover(&mut source, &options, &mut ()).expect("a kernel is found");
    let kernel = kernel_of(&profile);
    let limits = Limits::default();
    let mut walker = Walker::new(&limits, HashKey::new(1));
    let scope = Scope { files: true, memory: true, ..Scope::LEAST };
    let snapshot = walker.scan(&mut source, &kernel, scope).expect("processes are found");
    let mut contents = Contents::new(&limits, HashKey::new(2));
    let mut files = BTreeMap::new();
    let mut names = PathBuffer::default();
    for file in snapshot.files.iter() {
        let Some(identity) = FileIdentity::of_file(snapshot, file) else { continue };
        let name = write_file_name(snapshot, file, &mut names);
        let name = name.map(|_| names.text().to_vec());
        if files.insert(name.unwrap_or_default(), identity).is_none() {
            contents.ask(&identity);
        }
    }
    let begin = Instant::now();
    let computed = cpu_seconds();
    let (mut slices, mut worst) = (0_u64, 0.0_f64);
    while contents.has_work() {
        let slice = cpu_seconds();
        contents.work(&mut source, &kernel, SLICE_BYTES, &());
        worst = worst.max(cpu_seconds() - slice);
        slices += 1;
    }
    let computed = cpu_seconds() - computed;
    let seconds = begin.elapsed().as_secs_f64();
    let mut bytes = 0;
    let mut out = std::io::stdout().lock();
    for (name, identity) in &files {
        let size = identity.size;
        let text = match contents.get(identity) {
            Some(ContentFacts { outcome: HashOutcome::Whole { hashes }, format, .. }) => {
                bytes += size;
                format!("{} {size} {}", all(hashes), word(*format))
            }
            Some(ContentFacts { outcome: HashOutcome::Partial(partial), .. }) => {
                format!("partial {}/{} {size}", partial.resident, partial.pages)
            }
            Some(ContentFacts { outcome: HashOutcome::Nothing, .. }) => format!("nothing {size}"),
            None => format!("unasked {size}"),
        };
        let line = [text.as_bytes(), b" ", name, b"\n"].concat();
        if out.write_all(&line).is_err() {
            break;
        }
    }
    eprintln!(
        "{} files, {bytes} bytes of whole ones, in {:.1} ms, {:.1} ms of them on a processor: \
         {slices} slices, the longest {:.2} ms",
        files.len(),
        seconds * 1e3,
        computed * 1e3,
        worst * 1e3
    );
    ExitCode::SUCCESS
}

/// How long this thread was on a processor: on a machine that is shared the time of day says
/// little.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn all(hashes: &Hashes) -> String {
    format!("{} {} {}", Hex(&hashes.sha256), Hex(&hashes.sha1), Hex(&hashes.md5))
}

fn word(format: ContentFormat) -> String {
    match format {
        ContentFormat::Unknown => "unknown".to_owned(),
        ContentFormat::Other => "other".to_owned(),
        ContentFormat::Elf(kind) => format!("{kind:?}"),
    }
}
