//! Documents: manual pages and completions without a program, and the documentation as a book.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use panoptes_rig::{cache, output};

use super::sources::ReleaseSources;
use super::static_programs::{copy, copy_completions, copy_pages};
use super::{step, tools};
use crate::package;
use crate::platform::Platform;

/// The folder with the pages of the book, below the root of the repository.
const DOCUMENTS: &str = "docs";
/// Pages outside of [`DOCUMENTS`] to which others in the book link: paths in the repository, paths
/// in the book, and titles.
const OUTER_PAGES: [(&str, &str, &str); 6] = [
    ("PERFORMANCE.md", "PERFORMANCE.md", "Performance"),
    ("SECURITY.md", "SECURITY.md", "Security"),
    ("ARCHITECTURE.md", "ARCHITECTURE.md", "Architecture"),
    ("CONTRIBUTING.md", "CONTRIBUTING.md", "Contributing"),
    ("tests/README.md", "tests.md", "Tests of each promise"),
    ("engine/sources/doca/README.md", "doca.md", "DOCA's C interface"),
];

/// Makes the archives of manual pages and of completions.
pub(super) fn make_manual(sources: &ReleaseSources) -> Result<(), String> {
    let platform = sources.platform(Platform::default(), &[]);
    let beside = package::beside(&sources.program(&platform)?);
    let scratch = sources.scratch("manual")?;
    let [man, completions] = ["man", "completions"].map(step::folder);
    copy_pages(&beside, &scratch.join(&man))?;
    copy_completions(&beside, &scratch.join(&completions))?;
    sources.pack(&scratch, &man)?;
    sources.pack(&scratch, &completions)
}

/// Makes the archive of the book, in which each link to a file leads to one.
pub(super) fn make_book(sources: &ReleaseSources) -> Result<(), String> {
    let scratch = sources.scratch("book")?;
    let name = step::folder("book");
    let folder = scratch.join(&name);
    let pages = scratch.join("pages");
    write_pages(&sources.folder, &pages)?;
    let mut build = Command::new(tools::MDBOOK.obtain()?);
    build.arg("build").arg("--dest-dir").arg(&folder).arg(&pages);
    output(&mut build)?;
    if !folder.join("index.html").is_file() {
        return Err("mdbook has made no page index.html".to_owned());
    }
    let dead = dead_links(&folder)?;
    if !dead.is_empty() {
        return Err(format!("these links of the book lead nowhere:\n{}", dead.join("\n")));
    }
    sources.pack(&scratch, &name)
}

/// Copies [`DOCUMENTS`] and [`OUTER_PAGES`] of these sources into a folder that does not exist, and
/// adjusts their links.
fn write_pages(sources: &Path, folder: &Path) -> Result<(), String> {
    copy(&sources.join(DOCUMENTS), folder)?;
    for path in paths_in(folder, "md")? {
        let inner = path.strip_prefix(folder).map_err(|e| format!("{}: {e}", path.display()))?;
        let text = text_of(&path)?;
        cache::write(&path, adjusted(&text, &Path::new(DOCUMENTS).join(inner)).as_bytes())?;
    }
    for (from, to, _) in OUTER_PAGES {
        let text = text_of(&sources.join(from))?;
        cache::write(&folder.join(to), adjusted(&text, Path::new(from)).as_bytes())?;
    }
    // mdbook makes only the pages that its summary lists.
    let path = folder.join("SUMMARY.md");
    let chapters = OUTER_PAGES.map(|(_, to, title)| format!("- [{title}]({to})\n")).concat();
    let summary = format!("{}\n# The repository\n\n{chapters}", text_of(&path)?);
    cache::write(&path, summary.as_bytes())?;
    Ok(())
}

/// The text of a page in the book. `page` is its path in the repository.
fn adjusted(text: &str, page: &Path) -> String {
    text.split_inclusive('\n').map(|line| adjusted_line(line, page)).collect()
}

fn adjusted_line(line: &str, page: &Path) -> String {
    // A definition: the target of a link follows its label, up to the end of the line.
    if let Some(label) = line.split_once("]: ").and_then(|(start, _)| start.strip_prefix('['))
        && !label.contains(']')
    {
        let target = &line[label.len() + "[]: ".len()..];
        return format!("[{label}]: {}\n", target_in_book(target.trim_end(), page));
    }
    let mut parts = line.split("](");
    let mut adjusted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (target, rest) = part.split_at(part.find(')').unwrap_or(0));
        adjusted.push_str("](");
        adjusted.push_str(&target_in_book(target, page));
        adjusted.push_str(rest);
    }
    adjusted
}

/// The target in the book of a link on a page. `page` is that page's path in the repository. A link
/// to what the book lacks stays as it is.
fn target_in_book(target: &str, page: &Path) -> String {
    let (path, anchor) = target.split_at(target.find('#').unwrap_or(target.len()));
    let linked = resolved(&page.parent().unwrap_or(page).join(path));
    if page.starts_with(DOCUMENTS) && linked.starts_with(DOCUMENTS) {
        return target.to_owned();
    }
    let (Some(from), Some(to)) = (place_in_book(page), place_in_book(&linked)) else {
        return target.to_owned();
    };
    // Up to the root of the book, and down from there.
    let up = "../".repeat(from.components().count().saturating_sub(1));
    format!("{up}{}{anchor}", to.display())
}

/// The path in the book of a file of the repository, if the book has it.
fn place_in_book(path: &Path) -> Option<&Path> {
    let outer = OUTER_PAGES.into_iter().find(|(from, ..)| path == Path::new(from));
    match outer {
        Some((_, to, _)) => Some(Path::new(to)),
        None => path.strip_prefix(DOCUMENTS).ok(),
    }
}

/// The path without `.` and `..`.
fn resolved(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                resolved.pop();
            }
            part => resolved.push(part),
        }
    }
    resolved
}

/// The links of a finished book to files that do not exist, each with its page.
fn dead_links(book: &Path) -> Result<Vec<String>, String> {
    let mut dead = Vec::new();
    for page in paths_in(book, "html")? {
        let folder = page.parent().unwrap_or(book);
        for target in local_targets(&text_of(&page)?) {
            if !folder.join(target).exists() {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    Ok(dead)
}

/// The paths that a page in HTML links to, without anchors. Addresses of other machines are left
/// out.
fn local_targets(page: &str) -> Vec<&str> {
    let values = ["href=\"", "src=\""].into_iter().flat_map(|key| page.split(key).skip(1));
    let values = values.filter_map(|rest| rest.split_once('"'));
    let paths = values.filter_map(|(value, _)| value.split('#').next());
    paths.filter(|path| !path.is_empty() && !path.contains(':')).collect()
}

/// The paths of all files with this extension in a folder and in those below it.
fn paths_in(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for path in cache::list(folder)? {
        if path.is_dir() {
            paths.extend(paths_in(&path, extension)?);
        } else if cache::has_extension(&path, extension) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn text_of(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::folders::{ROOT, Temporary};

    #[test]
    fn links_lead_to_pages_of_the_book() {
        for (page, line, expected) in [
            (
                "docs/a.md",
                "[a](../SECURITY.md#releases), [b](b.md)",
                "[a](SECURITY.md#releases), [b](b.md)",
            ),
            (
                "docs/c/a.md",
                "[a](../../PERFORMANCE.md) [b](../b.md)",
                "[a](../PERFORMANCE.md) [b](../b.md)",
            ),
            ("docs/a.md", "[a]: ../PERFORMANCE.md\n", "[a]: PERFORMANCE.md\n"),
            ("docs/a.md", "[a](../tests/README.md)", "[a](tests.md)"),
            (
                "SECURITY.md",
                "[a](docs/c/a.md#b) [b](ARCHITECTURE.md)",
                "[a](c/a.md#b) [b](ARCHITECTURE.md)",
            ),
            ("engine/sources/doca/README.md", "[a](../../../docs/a.md)", "[a](a.md)"),
            (
                "SECURITY.md",
                "[a](https://b/c.md) [b](#c) [d](LICENSE)",
                "[a](https://b/c.md) [b](#c) [d](LICENSE)",
            ),
            ("SECURITY.md", "x [a]: y](z", "x [a]: y](z"),
        ] {
            assert_eq!(adjusted(line, Path::new(page)), expected, "{page}");
        }
    }

    #[test]
    fn the_book_has_each_page_that_its_pages_link_to() {
        let folder = Temporary::new("release-book").expect("there is room");
        let pages = folder.0.join("pages");
        write_pages(Path::new(ROOT), &pages).expect("the pages exist");
        let read = |path: &Path| text_of(path).expect("it was written");
        let summary = read(&pages.join("SUMMARY.md"));
        let mut links = 0;
        for path in paths_in(&pages, "md").expect("it was written") {
            let inner = path.strip_prefix(&pages).expect("a page").display().to_string();
            assert!(inner == "SUMMARY.md" || summary.contains(&format!("({inner})")), "{inner}");
            let text = read(&path);
            let prose = text.lines().filter(|line| !line.starts_with("    "));
            for part in prose.flat_map(|line| line.split("](").skip(1)) {
                let target = part.split([')', '#']).next().unwrap_or_default();
                if !target.is_empty() && !target.contains(':') {
                    let linked = path.parent().unwrap_or(&pages).join(target);
                    assert!(linked.exists(), "{inner}: {target}");
                    links += 1;
                }
            }
        }
        assert!(links > 100, "{links} links");
    }

    /// The names in a document that begin with this program's and have a version.
    fn names_with_versions(document: &str) -> impl Iterator<Item = &str> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let words = document.split(move |c: char| !is_part(c)).map(|word| word.trim_matches('.'));
        words.filter(|word| {
            let rest = word.strip_prefix("panoptes").and_then(|rest| rest.strip_prefix(['-', '_']));
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    }

    #[test]
    fn deployment_names_each_file_of_a_page_and_no_other() {
        let document = text_of(&Path::new(ROOT).join("docs/deployment.md")).expect("it exists");
        let (_, rest) = document.split_once("\n| file of a release |").expect("it has the table");
        let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
        let listed: BTreeSet<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
        let made = step::ReleaseStep::ALL.into_iter().flat_map(step::ReleaseStep::files);
        let made: Vec<String> = made.chain([step::SIGNATURE.to_owned()]).collect();
        let made: BTreeSet<&str> = made.iter().map(String::as_str).collect();
        assert_eq!(listed, made, "the document (left), the steps");
        for name in names_with_versions(&document) {
            let archive = format!("{name}.tar.gz");
            assert!(made.contains(name) || made.contains(archive.as_str()), "no step makes {name}");
        }
    }

    #[test]
    fn names_with_versions_are_found() {
        let text =
            "panoptes-1.0-a/panoptes (`./panoptes_1.0-1_b.deb`). panoptes-flow, panoptes-2.0.";
        let names: Vec<&str> = names_with_versions(text).collect();
        assert_eq!(names, ["panoptes-1.0-a", "panoptes_1.0-1_b.deb", "panoptes-2.0"]);
    }

    #[test]
    fn a_link_to_no_file_is_found() {
        let folder = Temporary::new("release-links").expect("there is room");
        let write = |name: &str, text: &str| {
            cache::create(&folder.0.join("in")).expect("there is room");
            fs::write(folder.0.join(name), text).expect("there is room");
        };
        write("a.html", "<a href=\"in/b.html#c\">, <a href=\"https://d/e\">, <a href=\"#f\">");
        write("in/b.html", "<a href=\"../a.html\"><a href=\"../c.html#d\"><img src=\"e.svg\">");
        let dead = dead_links(&folder.0).expect("the folder can be read");
        let dead: Vec<&str> = dead.iter().filter_map(|link| link.split(": ").nth(1)).collect();
        assert_eq!(dead, ["../c.html", "e.svg"]);
    }
}
