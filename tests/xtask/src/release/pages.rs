//! Documents: manual pages and completions without a program, and the documentation as a book.

use std::process::Command;

use panoptes_rig::output;

use super::sources::ReleaseSources;
use super::static_programs::{copy_completions, copy_pages};
use super::{step, tools};
use crate::package;
use crate::platform::Platform;

/// Makes the archives of manual pages and of completions.
pub(super) fn make_manual(sources: &ReleaseSources) -> Result<(), String> {
    let platform = sources.platform(Platform::default(), &[]);
    let program = package::prepare(&sources.folder, &platform, &sources.date())?;
    let beside = package::beside(&program);
    let scratch = sources.scratch("manual")?;
    let [man, completions] = ["man", "completions"].map(step::folder);
    copy_pages(&beside, &scratch.join(&man))?;
    copy_completions(&beside, &scratch.join(&completions))?;
    sources.pack(&scratch, &man)?;
    sources.pack(&scratch, &completions)
}

/// Makes the archive of the book.
pub(super) fn make_book(sources: &ReleaseSources) -> Result<(), String> {
    let scratch = sources.scratch("book")?;
    let name = step::folder("book");
    let folder = scratch.join(&name);
    let mut build = Command::new(tools::MDBOOK.obtain()?);
    build.arg("build").arg("--dest-dir").arg(&folder).arg(sources.folder.join("docs"));
    output(&mut build)?;
    if !folder.join("index.html").is_file() {
        return Err("mdbook has made no page index.html".to_owned());
    }
    sources.pack(&scratch, &name)
}
