//! `panoptes sbom build`: writes a bill of materials (SBOM) of a source.

use std::fs::Permissions;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use panoptes_sbom::build::{BuildOptions, BuildProgress, BuildResult};
use panoptes_sbom::digest;
use panoptes_sbom::{SbomError, SbomErrorKind, format};

use crate::cli::{PageHashes, SbomBuild};
use crate::exit::{Exit, Failure, printed};
use crate::message::Messages;

/// Maximum number of problems that are printed one by one.
const PROBLEMS_PRINTED_MAX: usize = 20;

/// Makes a bill of materials and writes it to the requested file, or to standard output.
pub fn build(request: &SbomBuild, messages: &Messages) -> Result<Exit, Failure> {
    let begin = Instant::now();
    let Some(source) = &request.source else {
        return Err(Failure::new(Exit::Usage, "name a SOURCE"));
    };
    let bar = Bar::new(request);
    let built = panoptes_sbom::build::build(source, &options(request), &bar);
    bar.0.finish_and_clear();
    finish(request, &built.map_err(failure)?, begin, messages)
}

/// The options of a build.
pub(crate) fn options(request: &SbomBuild) -> BuildOptions {
    BuildOptions {
        name: request.name.clone(),
        containers: request.containers.clone(),
        image: request.image.clone(),
        platform: request.platform.clone(),
        page_hashes: match request.page_hashes {
            PageHashes::Executables => digest::PageHashes::Executables,
            PageHashes::All => digest::PageHashes::All,
            PageHashes::None => digest::PageHashes::None,
        },
        excluded: request.excluded.clone(),
        trust_dpkg: request.trust_dpkg,
        trust_rpm: request.trust_rpm,
    }
}

/// Writes a bill of materials that was made since `begin`, and prints its sizes.
pub(crate) fn finish(
    request: &SbomBuild,
    built: &BuildResult,
    begin: Instant,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let goes_to = if let Some(path) = &request.output {
        write_file(path, built)?;
        format!(", written to {}", path.display())
    } else {
        printed(write(built, io::stdout().lock()))?;
        String::new()
    };
    for problem in built.problems.iter().take(PROBLEMS_PRINTED_MAX) {
        messages.error(problem);
    }
    if let Some(more) = built.problems.len().checked_sub(PROBLEMS_PRINTED_MAX + 1) {
        messages.error(format_args!("and {} more", more + 1));
    }
    if !request.quiet {
        for remark in &built.remarks {
            messages.warning(remark);
        }
        messages.info(format_args!(
            "{}: {}, {} of content in {:.1} s{goes_to}",
            built.source,
            counted(built.sbom.files.len() as u64, "file"),
            size(built.bytes),
            begin.elapsed().as_secs_f64(),
        ));
        if built.special > 0 {
            messages.info(format_args!("skipped {}", counted(built.special, "special file")));
        }
    }
    if built.problems.is_empty() {
        return Ok(Exit::Done);
    }
    let problems = counted(built.problems.len() as u64, "problem");
    Err(Failure::new(Exit::Failed, format!("the SBOM is incomplete: {problems}, see above")))
}

pub(crate) fn failure(error: SbomError) -> Failure {
    let exit = match error.kind {
        SbomErrorKind::Source => Exit::Source,
        SbomErrorKind::Permission => Exit::Permission,
        SbomErrorKind::Content => Exit::NoKernel,
        SbomErrorKind::Request => Exit::Usage,
    };
    Failure::new(exit, error.message)
}

fn write(built: &BuildResult, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    format::write(&built.sbom, &mut out).and_then(|()| out.flush())
}

/// Writes a new file and renames it over the old one, so that a concurrent reader gets one or the
/// other completely. A path that is no regular file is written directly.
fn write_file(path: &Path, built: &BuildResult) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::not_written(path, &error);
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let file = std::fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
        return write(built, file).map_err(failed);
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(".sbom-")
        .permissions(Permissions::from_mode(0o666)) // minus the umask
        .tempfile_in(folder)
        .map_err(failed)?;
    write(built, file.as_file()).map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// A progress bar on a terminal, otherwise hidden.
pub(crate) struct Bar(pub(crate) ProgressBar);

impl Bar {
    pub(crate) fn new(request: &SbomBuild) -> Self {
        if request.quiet || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let template = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }
}

impl BuildProgress for Bar {
    fn expect(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

pub(crate) fn counted(count: u64, what: &str) -> String {
    let ending = match (count, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {what}{ending}")
}

/// A number of bytes, for people.
fn size(bytes: u64) -> String {
    const MEBIBYTE: u64 = 1 << 20;
    if bytes < MEBIBYTE {
        format!("{} KiB", bytes.div_ceil(1024))
    } else {
        format!("{} MiB", bytes / MEBIBYTE)
    }
}
