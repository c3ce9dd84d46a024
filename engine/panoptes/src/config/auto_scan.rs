//! `auto_scan`: which guests of this machine are watched without being named.
//!
//! Not for: comparing a guest with the patterns (`guests`).

use std::path::Path;

use uuid::Uuid;

use super::section::Section;
use super::value::{ByteSize, Setting};

/// Which guests are watched, of those that are found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AutoScan {
    /// Only guests that one of these matches; all if there are none.
    pub include: Vec<GuestPattern>,
    /// No guest that one of these matches.
    pub exclude: Vec<GuestPattern>,
}

/// Which guests are meant: all patterns that are given have to match. The wildcards are `*` and
/// `?`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GuestPattern {
    /// Pattern that one of the guest's names must match.
    pub name: Option<String>,
    /// In lower case.
    pub uuid: Option<UuidPattern>,
    /// Pattern that the name or the number of the user must match.
    pub user: Option<String>,
    pub memory: Option<SizeRange>,
}

/// A pattern of UUIDs, in lower case and with hyphens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UuidPattern(pub String);

/// A range of sizes; both ends belong to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SizeRange {
    pub least: ByteSize,
    pub most: ByteSize,
}

/// What `auto_scan` can be.
pub(super) const FORM: &str = "true, false, or a mapping with include and exclude";

impl AutoScan {
    pub(super) fn read(&mut self, section: &mut Section<'_>) {
        for (key, into) in [("include", &mut self.include), ("exclude", &mut self.exclude)] {
            let mut patterns = Vec::new();
            section.sections_or_values(key, "name", |section| {
                patterns.extend(GuestPattern::read(section));
            });
            *into = patterns;
        }
    }
}

impl GuestPattern {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        const KEYS: [&str; 4] = ["name", "uuid", "user", "memory"];
        let mut pattern = Self::default();
        section.value("name", &mut pattern.name);
        section.value("uuid", &mut pattern.uuid);
        section.value("user", &mut pattern.user);
        section.value("memory", &mut pattern.memory);
        if section.is_empty() {
            let message = "a pattern of guests has `name`, `uuid`, `user` or `memory`";
            section.refuse("name", message);
        }
        // `uuid:4dea*` would be a name that no guest has.
        let name = pattern.name.as_deref().unwrap_or_default();
        let key = name.split_once(':').map(|(key, value)| (key, value.trim_start()));
        if let Some((key, value)) = key.filter(|(key, _)| KEYS.contains(key)) {
            let message = format!("`{name}` is a pattern of names; write `{{{key}: '{value}'}}`");
            section.refuse("name", message);
            return None;
        }
        pattern.warn_of_nothing(section);
        Some(pattern)
    }

    /// Warns of what no guest can have.
    fn warn_of_nothing(&self, section: &Section<'_>) {
        if let Some(UuidPattern(uuid)) = &self.uuid
            && !uuid.contains(['*', '?'])
            && Uuid::try_parse(uuid).is_err()
        {
            let key = section.full("uuid");
            section.warn("uuid", format!("`{key}`: no guest has the UUID `{uuid}`; write {uuid}*"));
        }
        if let Some(name) = self.name.as_ref().filter(|name| name.contains('[')) {
            let key = section.full("name");
            let message =
                format!("`{key}`: `[` in `{name}` is itself: the wildcards are `*` and `?`");
            section.warn("name", message);
        }
    }
}

impl Setting for UuidPattern {
    const FORM: &'static str = "pattern of UUIDs";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let text = String::read(text, base)?.to_ascii_lowercase();
        if let Ok(uuid) = Uuid::try_parse(&text) {
            return Ok(Self(uuid.hyphenated().to_string()));
        }
        let is_good = |byte: u8| byte.is_ascii_hexdigit() || b"-*?".contains(&byte);
        if text.bytes().all(is_good) {
            Ok(Self(text))
        } else {
            Err("is not a pattern of UUIDs; write one such as 4dea22b3-*".to_owned())
        }
    }
}

impl Setting for SizeRange {
    const FORM: &'static str = "range of sizes";

    fn show(&self) -> String {
        let Self { least, most } = self;
        match (least.0, most.0) {
            (0, _) => format!("<={most}"),
            (_, u64::MAX) => format!(">={least}"),
            _ => format!("{least}-{most}"),
        }
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        const EXAMPLE: &str = "write a range such as <1GiB, >=512MiB or 512MiB-8GiB";
        let size = |text: &str| {
            let text = text.trim();
            if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(format!("has no unit; write {text}MiB or {text}GiB"));
            }
            ByteSize::read(text, base).map_err(|_| format!("is not a range; {EXAMPLE}"))
        };
        let all = Self { least: ByteSize(0), most: ByteSize::UNBOUNDED };
        let range = if let Some(text) = text.strip_prefix(">=") {
            Self { least: size(text)?, ..all }
        } else if let Some(text) = text.strip_prefix("<=") {
            Self { most: size(text)?, ..all }
        } else if let Some(text) = text.strip_prefix('>') {
            Self { least: ByteSize(size(text)?.0.saturating_add(1)), ..all }
        } else if let Some(text) = text.strip_prefix('<') {
            Self { most: ByteSize(size(text)?.0.saturating_sub(1)), ..all }
        } else if let Some((least, most)) = text.split_once('-') {
            Self { least: size(least)?, most: size(most)? }
        } else {
            Self { least: size(text)?, most: size(text)? }
        };
        if range.least > range.most {
            return Err(format!("has no size in it; {EXAMPLE}"));
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Configuration, Mode, Overrides, read};

    fn problems(text: &str) -> (Configuration, Vec<String>) {
        let (configuration, problems) =
            read(text, Path::new("/etc"), Mode::Run, &Overrides::default());
        (configuration, problems.into_iter().map(|problem| problem.message).collect())
    }

    fn good(text: &str) -> AutoScan {
        let (configuration, problems) = problems(text);
        assert!(problems.is_empty() && configuration.auto_scan, "{text}: {problems:?}");
        configuration.auto_scan_guests
    }

    #[test]
    fn guests_are_chosen_by_patterns() {
        let read = good(
            "auto_scan:\n\
             \x20 include: ['web-*', {user: libvirt-qemu, memory: '>=512MiB'}]\n\
             \x20 exclude: [{uuid: 4DEA22B3-*}, {name: '*-test', user: root}]\n",
        );
        let of_name = |name: &str| GuestPattern { name: Some(name.into()), ..Default::default() };
        let large = SizeRange { least: ByteSize(512 << 20), most: ByteSize::UNBOUNDED };
        let user = GuestPattern {
            user: Some("libvirt-qemu".to_owned()),
            memory: Some(large),
            ..Default::default()
        };
        assert_eq!(read.include, [of_name("web-*"), user]);
        let uuid = Some(UuidPattern("4dea22b3-*".to_owned()));
        let test = GuestPattern { user: Some("root".to_owned()), ..of_name("*-test") };
        assert_eq!(read.exclude, [GuestPattern { uuid, ..Default::default() }, test]);
        for text in ["", "auto_scan: true", "auto_scan: {}", "auto_scan: {include: []}"] {
            assert_eq!(good(text), AutoScan::default(), "{text}");
        }
        assert!(!problems("auto_scan: false\nsystems: {a: {system: /a}}").0.auto_scan);
    }

    #[test]
    fn ranges_of_sizes_have_one_form_or_another() {
        let range =
            |text: &str| SizeRange::read(text, Path::new("")).map(|it| (it.least.0, it.most.0));
        assert_eq!(range("<1GiB"), Ok((0, (1 << 30) - 1)));
        assert_eq!(range("<= 1GiB"), Ok((0, 1 << 30)));
        assert_eq!(range(">1GiB"), Ok(((1 << 30) + 1, u64::MAX)));
        assert_eq!(range("512MiB-8GiB"), Ok((512 << 20, 8 << 30)));
        assert_eq!(range("1GiB"), Ok((1 << 30, 1 << 30)));
        assert!(range("8GiB-1GiB").unwrap_err().starts_with("has no size in it"));
        for wrong in ["", ">", "large", "1GiB-", "-1GiB", "<=1XB"] {
            assert!(range(wrong).unwrap_err().starts_with("is not a range"), "{wrong}");
        }
        for text in ["<=1GiB", ">=512MiB", "512MiB-8GiB"] {
            assert_eq!(SizeRange::read(text, Path::new("")).unwrap().show(), text);
        }
    }

    #[test]
    fn each_mistake_has_one_message_with_the_right_form() {
        let check = |text: &str, expected: &str| {
            let (_, problems) = problems(&format!("auto_scan: {text}"));
            assert_eq!(problems, [expected.to_owned()], "{text}");
        };
        check(
            "{include: ['uuid:4dea*']}",
            "`uuid:4dea*` is a pattern of names; write `{uuid: '4dea*'}`",
        );
        check("{include: [{}]}", "a pattern of guests has `name`, `uuid`, `user` or `memory`");
        check(
            "{include: web}",
            "`auto_scan.include` must be a list, not a single value; write [web]",
        );
        check(
            "{include: '*-1'}",
            "`auto_scan.include` must be a list, not a single value; write ['*-1']",
        );
        check(
            "{include: [{memory: 512}]}",
            "`auto_scan.include[0].memory`: `512` has no unit; write 512MiB or 512GiB",
        );
        check(
            "{include: [{uuid: abc}]}",
            "`auto_scan.include[0].uuid`: no guest has the UUID `abc`; write abc*",
        );
        check(
            "{exclude: ['[ab]*']}",
            "`auto_scan.exclude[0]`: `[` in `[ab]*` is itself: the wildcards are `*` and `?`",
        );
        check("{exclude: ['']}", "`auto_scan.exclude[0]`: `` is empty");
        check(
            "{include: [{nmae: web}]}",
            "unknown key `nmae` in `auto_scan.include[0]`; did you mean `name`?",
        );
        check(
            "{include: [{uuid: web}]}",
            "`auto_scan.include[0].uuid`: `web` is not a pattern of UUIDs; write one such as \
             4dea22b3-*",
        );
        check("{includes: []}", "unknown key `includes` in `auto_scan`; did you mean `include`?");
        let patterns = "`auto_scan` is true, false or patterns of guests; for patterns write";
        check("[web-1]", &format!("{patterns} {{include: [web-1]}}"));
        check("web-*", &format!("{patterns} {{include: ['web-*']}}"));
    }
}
