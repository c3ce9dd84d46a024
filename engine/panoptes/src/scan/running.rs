//! `panoptes sbom build --running`: a scan that is written as a bill of materials (SBOM) of what a
//! machine runs now.
//!
//! Not for: finding and hashing the files (`panoptes_engine::executables`).

use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

use panoptes_engine::container_config::Glob;
use panoptes_engine::executables::{CachedFile, Executable, Executables, Processes, outcomes};
use panoptes_engine::page_cache::{HashOutcome, Hashes, MachineMemory, Partial};
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Kernel, Scope, Snapshot, Walker};
use panoptes_sbom::build::{BuildOptions, BuildProgress as _, BuildResult};
use panoptes_sbom::digest::{self, BLOCK_BYTES, PageHashes};
use panoptes_sbom::model::{Sbom, SbomFile, SbomImage, SbomSubject};
use panoptes_sources::{AnySource, Detail, SourceMeter};

use super::{attach_to, look};
use crate::attach::warn_losses;
use crate::cli::SbomBuild;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::random::hash_key;
use crate::request::ScanRequest;
use crate::sbom::{Bar, counted, failure, finish, options};
use crate::watched::kind_of_copy;

/// The parts of a machine that are read: the areas of processes, and their files.
const SCOPE: Scope = Scope {
    files: false,
    memory: true,
    connections: false,
    interfaces: false,
    command_lines: false,
    udp_ports: false,
    modules: false,
    bpf: false,
    module_details: false,
};

/// Makes a bill of materials of what runs, and writes it like that of any source.
pub fn build_running(
    request: &SbomBuild,
    scan: &ScanRequest,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let begin = Instant::now();
    let options = options(request);
    let (source, profile) = attach_to(scan, begin, messages)?;
    let kernel = kernel_of(&profile);
    let limits = scan.system.settings.limits;
    let mut walker = Walker::new(&limits, hash_key());
    walker.set_copied(kind_of_copy(&source));
    let mut source = SourceMeter::new(source, Detail::Batches)?;
    look(&mut walker, &mut source, &kernel, SCOPE, &scan.system.name)?;
    let snapshot = walker.snapshot();

    let globs: Vec<Glob> = options.containers.iter().map(|glob| Glob::new(glob)).collect();
    let is_system = globs.is_empty();
    let processes = if is_system { Processes::System } else { Processes::Containers(&globs) };
    let mut found = Executables::new(snapshot, processes);
    found.files.retain(|file| !is_excluded(file, &options));
    if found.files.is_empty() {
        let what = if is_system { "outside of containers" } else { "in such a container" };
        let message = format!("{}: no process {what} has a file mapped", scan.system.name);
        return Err(Failure::new(Exit::Usage, message));
    }
    let bar = Bar::new(request);
    bar.expect(found.files.iter().map(|file| file.identity.size).sum());
    let mut known = Vec::with_capacity(found.files.len());
    outcomes(&found.files, (&mut source, &kernel), (&limits, hash_key()), &mut |file, outcome| {
        known.push(outcome);
        bar.advance(file.identity.size);
    });
    let mut collector = Collector::new(&options, (&mut source, &kernel), snapshot);
    for (file, outcome) in found.files.iter().zip(known) {
        collector.add(file, outcome);
    }
    bar.0.finish_and_clear();
    let built = collector.built(&found, is_system).complete(&options).map_err(failure)?;
    warn_losses(source.source_mut(), &scan.system, messages);
    finish(request, &built, begin, messages)
}

/// Whether a file is at or below a path that is left out.
fn is_excluded(file: &Executable, options: &BuildOptions) -> bool {
    options.excluded.iter().any(|path| {
        let rest = file.path.strip_prefix(path.as_os_str().as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

/// Collects files with their hashes, and what is missing.
struct Collector<'a> {
    options: &'a BuildOptions,
    source: &'a mut SourceMeter<AnySource>,
    kernel: &'a Kernel,
    snapshot: &'a Snapshot,
    block: Vec<u8>,
    files: Vec<SbomFile>,
    problems: Vec<String>,
    /// Number of files that lack pages, and of those pages.
    partial: u64,
    pages: u64,
    /// Number of files whose pages could not be hashed one by one.
    without_pages: u64,
}

impl<'a> Collector<'a> {
    fn new(
        options: &'a BuildOptions,
        (source, kernel): (&'a mut SourceMeter<AnySource>, &'a Kernel),
        snapshot: &'a Snapshot,
    ) -> Self {
        let (files, problems, block) = (Vec::new(), Vec::new(), vec![0; BLOCK_BYTES]);
        let (partial, pages, without_pages) = (0, 0, 0);
        Self {
            options,
            source,
            kernel,
            snapshot,
            block,
            files,
            problems,
            partial,
            pages,
            without_pages,
        }
    }

    fn add(&mut self, file: &Executable, outcome: HashOutcome) {
        let path = String::from_utf8_lossy(&file.path);
        match outcome {
            HashOutcome::Whole { hashes } => {
                let new = self.entry(file, hashes);
                let is_same = |old: &&mut SbomFile| old.path == new.path;
                match self.files.last_mut().filter(is_same) {
                    // Another inode with the same content, in another mount namespace.
                    Some(old) if old.sha256 == new.sha256 => {}
                    Some(_) => {
                        self.problems.push(format!(
                            "{path} has two contents, in two mount namespaces; one is left out"
                        ));
                    }
                    None => self.files.push(new),
                }
            }
            HashOutcome::Partial(Partial { pages, resident, .. }) => {
                let missing = u64::from(pages.saturating_sub(resident));
                let memory = &mut MachineMemory { source: &mut *self.source, kernel: self.kernel };
                let code = file.missing_code(memory, self.snapshot);
                self.partial += 1;
                self.pages += missing;
                self.problems.push(format!(
                    "{path} is left out: {missing} of its {pages} pages are not in memory, {code} \
                     of them are mapped as code"
                ));
            }
            HashOutcome::Nothing => self.problems.push(format!(
                "{path} is left out: its content is not in memory, or keeps changing"
            )),
        }
    }

    /// The entry of a file with these hashes. Its pages are hashed one by one if the file is still
    /// the same.
    fn entry(&mut self, file: &Executable, hashes: Hashes) -> SbomFile {
        let size = Some(file.identity.size);
        let (sha256, sha1) = (Some(hashes.sha256), Some(hashes.sha1));
        let (path, mode, md5) = (Some(file.path.clone()), Some(file.mode), Some(hashes.md5));
        let mut pages = Vec::new();
        if self.options.page_hashes != PageHashes::None {
            let memory = &mut MachineMemory { source: &mut *self.source, kernel: self.kernel };
            let mut input = CachedFile::new(memory, self.snapshot, file);
            let content = digest::digest(
                &mut input,
                &mut self.block,
                self.options.page_hashes,
                &file.path,
                file.mode,
                &mut |_| {},
            );
            match content {
                Ok(content) if content.sha256 == hashes.sha256 => pages = content.pages,
                Ok(_) | Err(_) => self.without_pages += 1,
            }
        }
        SbomFile { path, size, mode, sha256, sha1, md5, pages, arguments: Vec::new() }
    }

    /// The bill of materials, with what is missing in it.
    fn built(mut self, found: &Executables, is_system: bool) -> BuildResult {
        for path in &found.removed {
            let path = String::from_utf8_lossy(path);
            self.problems.push(format!(
                "{path} is left out: it was removed or replaced; restart what has it mapped"
            ));
        }
        let unread = [
            (found.incomplete, "process", "changed or could not be read completely; try again"),
            (self.snapshot.losses.dropped.into(), "object", "did not fit the limits"),
        ];
        let unread = unread.into_iter().filter(|(count, ..)| *count > 0);
        let line = |(count, of, what)| format!("{} {what}", counted(count, of));
        self.problems.extend(unread.map(line));
        let mut remarks =
            vec!["what runs in the machine now is approved, whatever it is: trust it first".into()];
        if self.partial > 0 {
            let (files, pages) = (counted(self.partial, "file"), counted(self.pages, "page"));
            remarks.push(format!(
                "missing in memory: {pages} of {files}; `cat FILE >/dev/null` in the machine reads \
                 them"
            ));
        }
        if is_system && found.elsewhere > 0 {
            let processes = counted(found.elsewhere, "process");
            remarks.push(format!(
                "left out: {processes} in containers; --container GLOB lists what runs in those"
            ));
        }
        if found.unnamed > 0 {
            let areas = counted(found.unnamed, "executable area");
            remarks.push(format!("left out: {areas} whose file has no path, such as a memfd"));
        }
        if self.without_pages > 0 {
            let files = counted(self.without_pages, "file");
            remarks.push(format!("without hashes of pages: {files}, some of whose pages changed"));
        }
        let bytes = self.files.iter().filter_map(|file| file.size).sum();
        let subject = if is_system {
            SbomSubject::Root { name: None }
        } else {
            SbomSubject::Image(SbomImage::default())
        };
        let sbom = Sbom { subject, files: self.files };
        let (source, problems) = ("a running machine", self.problems);
        BuildResult { sbom, source, problems, remarks, bytes, special: 0 }
    }
}
