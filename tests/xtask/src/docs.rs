//! `cargo xtask docs`: makes the generated pages and images of `docs/` anew. Tests compare them
//! with what this command writes, and follow the links of all documents.

use crate::cargo::{self, WORKSPACE};
use crate::{limits, plots};

/// If set, the tests of the generated pages write them.
const WRITE: &str = "PANOPTES_WRITE_DOCS";
/// The tests that generate the other pages.
const TESTS: [&str; 6] =
    ["--test", "records_page", "--test", "configuration_page", "--test", "flow_options_page"];

pub(crate) fn run() -> Result<(), String> {
    limits::write_page()?;
    plots::run()?;
    let mut command = cargo::command();
    command.args(["test", "--quiet"]).args(WORKSPACE).args(TESTS).env(WRITE, "1");
    cargo::must(&mut command, "a test that writes pages")
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

    /// All documents of the repository, without the build folder.
    fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                documents(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }

    /// The lines of a document outside its fenced blocks.
    fn prose(text: &str) -> impl Iterator<Item = &str> {
        let mut is_code = false;
        text.lines().filter(move |line| {
            let is_fence = line.starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        })
    }

    /// The targets of the links `[…](TARGET)` in a line.
    fn links(line: &str) -> Vec<&str> {
        let ends = line.split("](").skip(1);
        ends.filter_map(|rest| rest.split_once(')').map(|(target, _)| target)).collect()
    }

    /// The anchor that repository pages give to a heading.
    fn anchor(heading: &str) -> String {
        let kept = |c: char| c.is_alphanumeric() || c == ' ' || c == '-' || c == '_';
        let text: String = heading.to_lowercase().chars().filter(|c| kept(*c)).collect();
        text.trim().replace(' ', "-")
    }

    fn has_anchor(document: &Path, wanted: &str) -> bool {
        let text = std::fs::read_to_string(document).unwrap_or_default();
        let headings = prose(&text).filter_map(|line| line.strip_prefix('#'));
        headings.map(|line| anchor(line.trim_start_matches('#'))).any(|found| found == wanted)
    }

    #[test]
    fn every_link_of_a_document_leads_somewhere() {
        let (mut all, mut wrong) = (Vec::new(), Vec::new());
        documents(Path::new(ROOT), &mut all);
        assert!(all.len() > 10, "{all:?}");
        for document in &all {
            let text = std::fs::read_to_string(document).unwrap();
            for target in prose(&text).flat_map(links).filter(|target| !target.contains("://")) {
                let (path, wanted) = target.split_once('#').unwrap_or((target, ""));
                let linked = match path {
                    "" => document.clone(),
                    path => document.parent().unwrap().join(path),
                };
                let is_anchor = !wanted.is_empty() && linked.is_file();
                if !linked.exists() || (is_anchor && !has_anchor(&linked, wanted)) {
                    wrong.push(format!("{}: {target}", document.display()));
                }
            }
        }
        assert!(wrong.is_empty(), "these links lead nowhere:\n{}", wrong.join("\n"));
    }

    #[test]
    fn links_and_anchors_are_found() {
        assert_eq!(links("see [a](b.md) and [c](d.md#e-f)."), ["b.md", "d.md#e-f"]);
        assert_eq!(anchor(" `memory_use`: What it is, and why"), "memory_use-what-it-is-and-why");
        assert_eq!(prose("a\n```\nb\n```\nc").collect::<Vec<_>>(), ["a", "c"]);
    }
}
