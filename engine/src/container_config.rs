//! Container configuration: which containers are reported, and which image each one has.
//!
//! Everything here is built once from the configuration and queried without allocating.
//!
//! Not here: finding containers ([`crate::walk`]) and tracking them ([`crate::state`]).

use panoptes_decoders::text::matches_glob;

/// The names of a container; unknown ones are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContainerNames<'a> {
    /// The 64-hex id, or the runtime's name for it.
    pub id: &'a [u8],
    /// The name of the container, where the runtime uses names.
    pub name: Option<&'a [u8]>,
    pub pod_name: Option<&'a [u8]>,
    pub pod_uid: Option<&'a [u8]>,
    /// Its image, as far as it is known.
    pub image: ImageReference<'a>,
}

/// A pattern for names: `*` matches any characters, `?` matches one.
///
/// A pattern of 12 or more hexadecimal digits and nothing else matches every id that begins with
/// them, as runtimes show ids.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glob {
    pattern: Box<[u8]>,
    is_short_id: bool,
}

/// Length of the shortened ids that runtimes show.
const SHORT_ID_DIGITS: usize = 12;

impl Glob {
    pub fn new(pattern: &str) -> Self {
        let pattern: Box<[u8]> = pattern.as_bytes().into();
        let is_short_id = pattern.len() >= SHORT_ID_DIGITS
            && pattern.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        Self { pattern, is_short_id }
    }

    /// Whether the pattern matches all of `text`.
    pub fn matches(&self, text: &[u8]) -> bool {
        matches_glob(&self.pattern, text)
    }

    /// Whether the pattern ends in `*`.
    pub(crate) fn is_open(&self) -> bool {
        self.pattern.ends_with(b"*")
    }

    /// What the pattern begins with before its first wildcard.
    pub fn beginning(&self) -> &[u8] {
        self.pattern.split(|byte| b"*?".contains(byte)).next().unwrap_or_default()
    }

    /// Whether the pattern matches the container of that id or name.
    pub(crate) fn means(&self, id: &[u8], name: Option<&[u8]>) -> bool {
        self.matches(id)
            || name.is_some_and(|name| self.matches(name))
            || (self.is_short_id && id.starts_with(&self.pattern))
    }

    /// Whether the pattern matches any name of a container.
    fn means_any(&self, names: &ContainerNames<'_>) -> bool {
        self.means_container(names) || self.means_image(&names.image)
    }

    /// Whether the pattern matches a container's id, its name or its pod.
    pub(crate) fn means_container(&self, names: &ContainerNames<'_>) -> bool {
        let pod = [names.pod_name, names.pod_uid].into_iter().flatten();
        self.means(names.id, names.name) || pod.into_iter().any(|name| self.matches(name))
    }

    /// Whether the pattern matches an image's name or digest.
    pub(crate) fn means_image(&self, image: &ImageReference<'_>) -> bool {
        let parts = [image.name, image.digest].into_iter().flatten();
        parts.into_iter().any(|part| self.matches(part.as_bytes()))
    }
}

/// An image reference: `registry/name:tag`, `sha256:…`, or both joined by `@`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ImageReference<'a> {
    /// The name, with the tag if there is one.
    pub name: Option<&'a str>,
    pub digest: Option<&'a str>,
}

impl<'a> ImageReference<'a> {
    /// Splits an image reference into name and digest.
    pub fn new(image: &'a str) -> Self {
        let is_digest = |text: &str| {
            ["sha256:", "sha384:", "sha512:"].iter().any(|kind| text.starts_with(kind))
        };
        match image.rsplit_once('@') {
            Some((name, digest)) if is_digest(digest) => {
                Self { name: (!name.is_empty()).then_some(name), digest: Some(digest) }
            }
            _ if is_digest(image) => Self { name: None, digest: Some(image) },
            _ => Self { name: Some(image), digest: None },
        }
    }
}

/// The image of each container, as configured.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Images {
    entries: Box<[(Glob, Box<str>)]>,
}

impl Images {
    /// Pairs of a pattern for ids or names and an image; the first match counts.
    pub fn new<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let entry = |(glob, image): (&str, &str)| (Glob::new(glob), Box::from(image));
        Self { entries: entries.into_iter().map(entry).collect() }
    }

    /// The image of a container, found by its id or name: name, digest or both
    /// ([`ImageReference`]).
    pub fn image_of(&self, id: &[u8], name: Option<&[u8]>) -> Option<&str> {
        self.get(self.find(id, name)?)
    }

    /// Index of a container's image, for [`Images::get`].
    pub fn find(&self, id: &[u8], name: Option<&[u8]>) -> Option<usize> {
        self.entries.iter().position(|(glob, _)| glob.means(id, name))
    }

    /// The image at an index from [`Images::find`].
    pub fn get(&self, number: usize) -> Option<&str> {
        self.entries.get(number).map(|(_, image)| &**image)
    }
}

/// Which containers to report, and their images.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContainerConfig {
    /// Report only these; all if empty.
    pub include: Vec<Glob>,
    /// Do not report these.
    pub exclude: Vec<Glob>,
    pub images: Images,
}

impl ContainerConfig {
    /// Whether every container is reported.
    pub fn reports_all(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether a container of these names is reported.
    pub fn reports(&self, names: &ContainerNames<'_>) -> bool {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.means_any(names));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &[u8] = b"4f1c0de5a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).matches(text.as_bytes())
    }

    #[test]
    fn globs_have_stars_and_question_marks() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("web", "web"),
            ("web-*", "web-"),
            ("web-*", "web-12"),
            ("*/nginx:*", "registry.example.com/library/nginx:1.27"),
            ("a*b*c", "a1b2b3c"),
            ("??b", "\u{e4}b"),
            ("**x", "x"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("web", "web-1"),
            ("web-?", "web-"),
            ("a*b", "abc"),
            ("?", ""),
            ("[a]", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        // Backtracking stays bounded.
        assert!(!matches(&"*a".repeat(500), &"a".repeat(499)));
    }

    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => text.is_empty(),
            (Some((b'*', rest)), tail) => {
                slow(rest, text) || tail.is_some_and(|(_, tail)| slow(pattern, tail))
            }
            (Some((wanted, rest)), Some((byte, tail))) => {
                (*wanted == b'?' || wanted == byte) && slow(rest, tail)
            }
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn globs_agree_with_their_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(matches(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }

    #[test]
    fn images_are_found_by_id_short_id_or_name() {
        let images = Images::new([
            ("4f1c0de5a7b3", "nginx:1.27@sha256:aa"),
            ("web-*", "web"),
            ("4f1c0de5*", "other"),
        ]);
        assert_eq!(images.image_of(ID, None), Some("nginx:1.27@sha256:aa"));
        assert_eq!(images.image_of(b"4f1c0de5ffff", None), Some("other"));
        assert_eq!(images.image_of(b"ffff", Some(b"web-1")), Some("web"));
        assert_eq!(images.image_of(b"ffff", None), None);
        assert_eq!(Images::default().image_of(ID, None), None);
        let both = ImageReference { name: Some("nginx:1.27"), digest: Some("sha256:aa") };
        assert_eq!(ImageReference::new("nginx:1.27@sha256:aa"), both);
        assert_eq!(
            ImageReference::new("sha256:aa"),
            ImageReference { name: None, digest: Some("sha256:aa") }
        );
        assert_eq!(ImageReference::new("a@b"), ImageReference { name: Some("a@b"), digest: None });
    }

    #[test]
    fn exclude_wins_over_include() {
        let globs = |patterns: &[&str]| patterns.iter().map(|p| Glob::new(p)).collect();
        let mut config = ContainerConfig::default();
        let web = ContainerNames { id: ID, pod_name: Some(b"web-0"), ..ContainerNames::default() };
        let nginx = ContainerNames {
            id: b"x",
            image: ImageReference::new("nginx:1@sha256:ab"),
            ..ContainerNames::default()
        };
        let other = ContainerNames { id: b"db", name: Some(b"db"), ..ContainerNames::default() };
        assert!(config.reports_all() && config.reports(&web));
        config.include = globs(&["web-*", "nginx:*", "db"]);
        assert!(config.reports(&web) && config.reports(&nginx) && config.reports(&other));
        config.exclude = globs(&["4f1c0de5a7b3", "sha256:ab"]);
        assert!(!config.reports(&web) && !config.reports(&nginx) && config.reports(&other));
        config.include = globs(&["nothing"]);
        assert!(!config.reports(&other));
    }
}
