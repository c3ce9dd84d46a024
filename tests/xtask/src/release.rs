//! `cargo xtask release`: everything that a release page has, in `target/release-page`.
//!
//! All of it is made of the present commit, exported into a folder of its own. Paths, times, owners
//! and orders are the same in each build. So two builds are equal byte for byte; `--twice` builds
//! in a second folder and compares. Sums, a trial of what was made, and a signature follow.
//!
//! Start reading at [`step::ReleaseStep`]; [`sources`] has what makes builds equal.

mod archive;
mod comparison;
mod elf;
mod packages;
mod pages;
mod sbom;
mod signature;
mod sources;
mod static_programs;
mod step;
mod tools;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use panoptes_rig::cache;

use self::sources::ReleaseSources;
use self::step::ReleaseStep;
use crate::folders::ROOT;
use crate::results::Count;
use crate::skips;
use crate::stages::Stages;
use crate::test::part;

/// Makes everything that a release page has, of the present commit, in target/release-page
///
/// Static programs, packages, the container image, documents, an SBOM, sums and a signature. Takes
/// an hour or more; the image and trials of packages take root. The last line is
/// `N passed, N failed, N skipped`; what was skipped comes before.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Do only this; may be repeated
    #[arg(long = "only", value_name = "STEP")]
    steps: Vec<ReleaseStep>,
    /// Build in a second folder, too, and compare all files byte for byte
    #[arg(long)]
    twice: bool,
    /// The private key of ssh that signs the sums of a whole page after its trial, which is then a
    /// part of the run; it lies outside of the repository
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Make a base image of Debian's packages where no registry gives it; the image has the label
    /// `panoptes.base=own` then
    #[arg(long)]
    own_base: bool,
}

impl Options {
    /// Whether a step is done. What is signed was tried in the same run.
    fn has(&self, step: ReleaseStep) -> bool {
        let is_for_signature = self.key.is_some() && step == ReleaseStep::Trial;
        self.steps.is_empty() || self.steps.contains(&step) || is_for_signature
    }

    /// The path of the key, if there is one, and it can sign what this run makes.
    fn usable_key(&self) -> Result<Option<PathBuf>, String> {
        let Some(key) = &self.key else { return Ok(None) };
        if !self.has(ReleaseStep::Sums) {
            let mend = "add --only sums, or leave out --key";
            return Err(format!("--key signs the sums, which --only leaves out; {mend}"));
        }
        let key = signature::private_key(key)?;
        signature::check_key(&key)?;
        Ok(Some(key))
    }
}

/// The folder of the page, and that of the second build's, below the root of the repository.
const PAGE: &str = "target/release-page";
const SECOND_PAGE: &str = "target/release-build/second-page";

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let begin = Instant::now();
    // What could not be signed in the end fails before hours of building.
    let key = options.usable_key()?;
    let builds = ReleaseStep::ALL.into_iter().filter(|step| step.is_build() && options.has(*step));
    let builds: Vec<ReleaseStep> = builds.collect();
    let page = Path::new(ROOT).join(PAGE);
    if options.steps.is_empty() {
        cache::remove(&page)?;
    }
    let mut stages = Stages::default();
    let mut count = Count::default();
    // A page that exists can be signed and tried whatever was committed since.
    if !builds.is_empty() {
        count.add(build(&builds, options, &page, &mut stages)?);
    }
    if count.failed > 0 {
        println!("== neither sums nor a signature: a part of the page failed");
    } else if options.has(ReleaseStep::Sums) {
        let sum = || signature::sum(&page, key.is_some());
        count.add(part(&mut stages, "sums", || sum().map(|()| Count::of_one(true))));
    }
    if options.has(ReleaseStep::Trial) {
        count.add(trial::run(&page, &mut stages));
    }
    if options.has(ReleaseStep::Sums) {
        count.add(sign(&page, key.as_deref(), count.failed > 0, &mut stages));
    }
    println!("== stages\n{}", stages.table().trim_end());
    println!("{:8.1} s  in all; the page is in {PAGE}", begin.elapsed().as_secs_f64());
    skips::print();
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    // The sum stays the last line.
    if count.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// Signs the sums of a page, unless something failed before. Without a key, nothing is signed.
fn sign(page: &Path, key: Option<&Path>, has_failed: bool, stages: &mut Stages) -> Count {
    let Some(key) = key else {
        println!("== no signature, as --key names no private key");
        return Count::default();
    };
    if has_failed {
        println!("== no signature: a part of the page, or its trial, failed");
        return Count::default();
    }
    part(stages, "signature", || signature::sign(page, key).map(|()| Count::of_one(true)))
}

/// Makes the files of these steps. `--twice` makes them again elsewhere and compares.
fn build(
    steps: &[ReleaseStep],
    options: &Options,
    page: &Path,
    stages: &mut Stages,
) -> Result<Count, String> {
    let first = ReleaseSources::export("first", page)?;
    // Those of other files than the ones that follow.
    signature::remove(page)?;
    let mut count = make_all(steps, &first, options, stages);
    if options.twice {
        let page = Path::new(ROOT).join(SECOND_PAGE);
        cache::remove(&page)?;
        // A longer path: what has it in its bytes differs in length, too.
        let second = ReleaseSources::export("second-of-two", &page)?;
        count.add(make_all(steps, &second, options, stages));
        let compare = || comparison::compare(&first.page, &second.page);
        count.add(part(stages, "comparison", || compare().map(|()| Count::of_one(true))));
    }
    Ok(count)
}

/// Makes the files of these steps. One that fails does not end the others.
fn make_all(
    steps: &[ReleaseStep],
    sources: &ReleaseSources,
    options: &Options,
    stages: &mut Stages,
) -> Count {
    let mut count = Count::default();
    for step in steps {
        let title = format!("{} of the build {}", step.name(), sources.name);
        let work = || make(*step, sources, options).map(|()| Count::of_one(true));
        count.add(part(stages, &title, work));
    }
    count
}

/// Makes the files of a step, and prints their sizes.
fn make(step: ReleaseStep, sources: &ReleaseSources, options: &Options) -> Result<(), String> {
    let paths: Vec<PathBuf> = step.files().iter().map(|name| sources.page.join(name)).collect();
    for path in &paths {
        // What an earlier run made must not pass for a new file.
        let _ = fs::remove_file(path);
    }
    match step {
        ReleaseStep::Static => static_programs::make(sources)?,
        ReleaseStep::Deb => packages::make_debs(sources)?,
        ReleaseStep::Rpm => packages::make_rpms(sources)?,
        ReleaseStep::Image => packages::make_image(sources, options.own_base)?,
        ReleaseStep::Manual => pages::make_manual(sources)?,
        ReleaseStep::Book => pages::make_book(sources)?,
        ReleaseStep::Sbom => sbom::make(sources)?,
        ReleaseStep::Sums | ReleaseStep::Trial => {}
    }
    for path in &paths {
        let facts = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("{} ({} bytes)", path.display(), facts.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(steps: &[ReleaseStep], key: Option<&str>) -> Options {
        let key = key.map(PathBuf::from);
        Options { steps: steps.to_vec(), twice: false, key, own_base: false }
    }

    #[test]
    fn what_is_signed_is_tried() {
        let is_tried = |steps: &[ReleaseStep], key| options(steps, key).has(ReleaseStep::Trial);
        assert!(is_tried(&[ReleaseStep::Sums], Some("/nowhere/key")));
        assert!(!is_tried(&[ReleaseStep::Sums], None));
        assert!(is_tried(&[], None));
        assert!(!options(&[ReleaseStep::Sums], Some("/nowhere/key")).has(ReleaseStep::Static));
    }

    #[test]
    fn a_key_that_signs_nothing_is_refused() {
        let error = |steps: &[ReleaseStep]| {
            options(steps, Some("/nowhere/key")).usable_key().expect_err("there is no such key")
        };
        let unused = error(&[ReleaseStep::Static, ReleaseStep::Trial]);
        assert!(unused.contains("add --only sums"), "{unused}");
        for steps in [Vec::new(), vec![ReleaseStep::Sums]] {
            let missing = error(&steps);
            assert!(missing.starts_with("/nowhere/key: "), "{missing}");
        }
        assert_eq!(options(&[ReleaseStep::Static], None).usable_key(), Ok(None));
    }
}
