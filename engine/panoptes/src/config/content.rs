//! `events.file_descriptor_file_content_change`: which changed files matter.

use std::path::Path;

use panoptes_engine::container_config::Glob;
use panoptes_engine::detect::file_content::rules::ContentRules;
use panoptes_records::activities::Severity;

use super::section::Section;
use super::value::Setting;

/// Which changes of files are alerts, and which are reported besides.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContentChanges {
    /// Files that matter beside the default ones.
    pub include: Vec<FilePattern>,
    /// Files that do not matter.
    pub exclude: Vec<FilePattern>,
    /// Severities of some files; the first pattern that matches applies.
    pub severities: Vec<(FilePattern, Severity)>,
    /// Whether changes of files that do not matter are events.
    pub others: bool,
}

/// A pattern of absolute paths, with the wildcards `*` and `?`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilePattern(pub String);

impl ContentChanges {
    /// The setting with which each change is an alert.
    pub(super) fn every_change() -> Self {
        Self { include: vec![FilePattern("*".to_owned())], ..Self::default() }
    }

    /// Reads the keys beside `enabled`.
    pub(super) fn read(&mut self, severity: &mut Severity, section: &mut Section<'_>) {
        section.value_or_patterns("severity", severity, &mut self.severities);
        section.values("include", &mut self.include);
        section.values("exclude", &mut self.exclude);
        section.value("others", &mut self.others);
    }

    pub(crate) fn rules(&self) -> ContentRules {
        let globs = |patterns: &[FilePattern]| patterns.iter().map(FilePattern::glob).collect();
        let severities = self.severities.iter();
        ContentRules {
            include: globs(&self.include),
            exclude: globs(&self.exclude),
            severities: severities.map(|(pattern, severity)| (pattern.glob(), *severity)).collect(),
            others: self.others,
        }
    }
}

impl FilePattern {
    fn glob(&self) -> Glob {
        Glob::new(&self.0)
    }
}

impl Setting for FilePattern {
    const FORM: &'static str = "pattern of paths";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let text = String::read(text, base)?;
        if text.starts_with(['/', '*']) {
            Ok(Self(text))
        } else {
            Err("is not a pattern of absolute paths; it must begin with `/` or `*`".to_owned())
        }
    }
}
