//! The index compared with a list that is searched from end to end.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Model {
    subject: usize,
    path: Option<Vec<u8>>,
    size: Option<u64>,
    sha256: Option<[u8; 32]>,
    sha1: Option<[u8; 20]>,
    md5: Option<[u8; 16]>,
    pages: Vec<PageDigest>,
}

impl Model {
    fn file(&self) -> ShippedFile<'_> {
        ShippedFile {
            path: self.path.as_deref(),
            size: self.size,
            sha256: self.sha256,
            sha1: self.sha1,
            md5: self.md5,
            pages: &self.pages,
            arguments: &[],
        }
    }

    fn has_content(&self, sha256: &[u8; 32], sha1: &[u8; 20], md5: &[u8; 16]) -> bool {
        match (self.sha256, self.sha1, self.md5) {
            (Some(own), ..) => own == *sha256,
            (None, Some(own), _) => own == *sha1,
            (None, None, Some(own)) => own == *md5,
            (None, None, None) => false,
        }
    }

    fn has_pages(&self) -> bool {
        self.size.is_some_and(|size| size.div_ceil(4096) == self.pages.len() as u64)
            && !self.pages.is_empty()
    }
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    "(/usr)?/(bin|lib|srv|binary)/[ab]".prop_map(String::into_bytes)
}

fn model() -> impl Strategy<Value = Model> {
    let small = 0u8..3;
    let pages = prop::collection::vec((0u8..2).prop_map(|byte| [byte; 16]), 0..4);
    (
        0..4usize,
        prop::option::of(path()),
        prop::option::of(prop::sample::select(vec![0, 1, 4096, 4097, 9000])),
        prop::option::of(small.clone()),
        prop::option::of(small.clone()),
        prop::option::of(small),
        pages,
    )
        .prop_map(|(subject, path, size, sha256, sha1, md5, pages)| Model {
            subject,
            path,
            size,
            sha256: sha256.map(|byte| [byte; 32]),
            sha1: sha1.map(|byte| [byte; 20]),
            md5: md5.map(|byte| [byte; 16]),
            pages,
        })
}

fn image(name: &'static str) -> ShippedSubject<'static> {
    ShippedSubject::Image { name: Some(name), digest: None, containers: &[], entrypoint: &[] }
}

fn without_usr(path: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(path).into_owned();
    for folder in ["/usr/bin/", "/usr/lib/"] {
        if text.starts_with(folder) {
            return text.as_bytes()["/usr".len()..].to_vec();
        }
    }
    path.to_vec()
}

fn build(files: &[Model]) -> (ShippedFiles, Vec<SubjectId>) {
    let mut builder = ShippedBuilder::new();
    let subjects: Vec<SubjectId> =
        [ShippedSubject::Everywhere, ShippedSubject::System, image("one"), image("two")]
            .iter()
            .map(|subject| builder.subject(subject).expect("there is room for four"))
            .collect();
    for file in files {
        builder.add(subjects[file.subject], &file.file()).expect("there is room for a few");
    }
    (builder.build(), subjects)
}

fn numbers<'a>(files: impl Iterator<Item = ShippedFileView<'a>>) -> Vec<u32> {
    let mut numbers: Vec<u32> = files.map(|file| file.id().0).collect();
    numbers.sort_unstable();
    numbers
}

fn expected(files: &[Model], fits: impl Fn(&Model) -> bool) -> Vec<u32> {
    (0..).zip(files).filter(|(_, file)| fits(file)).map(|(number, _)| number).collect()
}

proptest! {
    #[test]
    fn every_lookup_finds_what_a_search_from_end_to_end_finds(
        files in prop::collection::vec(model(), 0..20),
        path in path(),
        (sha256, sha1, md5) in (0u8..3, 0u8..3, 0u8..3),
    ) {
        let (shipped, subjects) = build(&files);
        let (sha256, sha1, md5) = ([sha256; 32], [sha1; 20], [md5; 16]);
        prop_assert_eq!(
            numbers(shipped.with_content(&Hashes { sha256, sha1, md5 })),
            expected(&files, |file| file.has_content(&sha256, &sha1, &md5))
        );
        for size in [0, 1, 4096, 4097, 9000, 9001] {
            prop_assert_eq!(
                numbers(shipped.of_size(size)),
                expected(&files, |file| file.size == Some(size))
            );
        }
        for (index, &subject) in subjects.iter().enumerate() {
            prop_assert_eq!(
                numbers(shipped.at_path(subject, &path)),
                expected(&files, |file| {
                    let own = file.path.as_deref().map(without_usr);
                    file.subject == index && own == Some(without_usr(&path))
                })
            );
            prop_assert_eq!(
                shipped.has_unsized(subject),
                files.iter().any(|file| file.subject == index && file.size.is_none())
            );
        }
    }

    #[test]
    fn the_likest_content_is_the_one_with_the_fewest_differences(
        files in prop::collection::vec(model(), 0..20),
        resident in prop::collection::vec((0u32..4, 0u8..2), 0..4),
    ) {
        let (shipped, _) = build(&files);
        let pages: Vec<_> = resident.iter().map(|&(index, byte)| (index, [byte; 16])).collect();
        for size in [1, 4096, 4097, 9000] {
            let is_compared = |file: &&Model| file.size == Some(size) && file.has_pages();
            let of_size = || files.iter().filter(is_compared);
            let differing = |file: &Model| {
                let known = pages.iter().filter(|(index, _)| (*index as usize) < file.pages.len());
                let count = known.clone().count();
                let differing = known.filter(|(index, own)| file.pages[*index as usize] != *own);
                (count > 0).then(|| differing.count() as u32)
            };
            let least = of_size().filter_map(differing).min();
            let nearest = shipped.best_match(size, &pages);
            prop_assert_eq!(nearest.map(|nearest| nearest.differing), least);
            if let Some(nearest) = nearest {
                let (run, ambiguous) = RunId::of(&nearest);
                let mut alike: Vec<_> = of_size().filter(|file| differing(file) == least).collect();
                alike.dedup_by(|one, other| one.pages == other.pages);
                let contents: std::collections::HashSet<_> =
                    alike.iter().map(|file| &file.pages).collect();
                prop_assert_eq!(ambiguous, contents.len() > 1);
                let of_run: Vec<_> =
                    shipped.of_size(size).filter(|file| file.run() == Some(run)).collect();
                prop_assert!(!of_run.is_empty());
                for file in of_run {
                    prop_assert_eq!(differing(&files[file.id().0 as usize]), least);
                }
            }
        }
    }
}

#[test]
fn usr_is_the_same_as_none_before_merged_folders_only() {
    for (path, expected) in [
        ("/usr/bin/ls", "/bin/ls"),
        ("/usr/sbin/ip", "/sbin/ip"),
        ("/usr/lib/x.so", "/lib/x.so"),
        ("/usr/lib64/x.so", "/lib64/x.so"),
        ("/usr/lib", "/lib"),
        ("/usr/local/bin/x", "/usr/local/bin/x"),
        ("/usr/binary", "/usr/binary"),
        ("/usrbin/x", "/usrbin/x"),
        ("/usr", "/usr"),
        ("/usr/", "/usr/"),
        ("/bin/ls", "/bin/ls"),
        ("", ""),
    ] {
        assert_eq!(merged(path.as_bytes()), expected.as_bytes(), "{path}");
    }
}

#[test]
fn images_match_by_either_name() {
    for (one, other, same) in [
        ("web:1", "web:1", true),
        ("web:1", "example/web:1", true),
        ("registry.example/library/web:1", "web:1", true),
        ("web:1", "web:11", false),
        ("web:1", "theweb:1", false),
        ("web", "", false),
    ] {
        assert_eq!(same_image(one, other), same, "{one} {other}");
        assert_eq!(same_image(other, one), same, "{other} {one}");
    }
}

#[test]
fn subjects_apply_by_where_a_process_is() {
    let patterns = ["web-*".to_owned()];
    let entrypoint = [b"/bin/serve".to_vec(), b"--now".to_vec()];
    let web = ShippedSubject::Image {
        name: Some("web:1"),
        digest: Some("sha256:ab"),
        containers: &patterns,
        entrypoint: &entrypoint,
    };
    let mut builder = ShippedBuilder::new();
    let system = builder.subject(&ShippedSubject::System).expect("there is room");
    let web = builder.subject(&web).expect("there is room");
    let other = builder.subject(&image("other:1")).expect("there is room");
    assert_eq!(builder.subject(&ShippedSubject::System), Ok(system), "the same again");
    let shipped = builder.build();
    let ids = |applied: ProcessSubjects| applied.iter().collect::<Vec<_>>();
    assert_eq!(ids(shipped.of_system()), [system]);
    assert_eq!(ids(shipped.of_container(b"web-1", None, None)), [web], "by its id");
    assert_eq!(ids(shipped.of_container(b"0123", Some(b"web-1"), None)), [web], "by its name");
    assert_eq!(ids(shipped.of_container(b"0123", None, Some("example/web:1"))), [web]);
    assert_eq!(ids(shipped.of_container(b"0123", None, Some("sha256:ab"))), [web]);
    assert_eq!(ids(shipped.of_container(b"0123", None, Some("any@sha256:ab"))), [web]);
    assert!(shipped.of_container(b"0123", None, Some("web:1@sha256:cd")).is_empty(), "a newer one");
    let configured = shipped.of_container(b"web-1", None, Some("other:1"));
    assert_eq!(ids(configured), [other], "the configuration goes before patterns");
    assert!(shipped.of_container(b"0123", None, None).is_empty(), "not known");
    assert!(shipped.of_container(b"0123", None, Some("third")).is_empty(), "no SBOM of it");
    let applied = shipped.of_container(b"web-1", None, None);
    assert_eq!(shipped.entrypoints(&applied).collect::<Vec<_>>(), [b"/bin/serve\0--now\0"]);
    assert_eq!(shipped.image_of(&applied), Some((Some("web:1"), Some("sha256:ab"))));
    assert!(ShippedFiles::default().of_system().is_empty(), "nothing was shipped");
}

#[test]
fn approved_content_applies_everywhere() {
    let mut builder = ShippedBuilder::new();
    let everywhere = builder.subject(&ShippedSubject::Everywhere).expect("there is room");
    let list = ShippedFile { sha256: Some([7; 32]), ..ShippedFile::default() };
    builder.add(everywhere, &list).expect("there is room");
    let shipped = builder.build();
    assert!(shipped.of_system().has(everywhere));
    assert!(shipped.of_container(b"0123", None, None).has(everywhere));
    let found: Vec<_> =
        shipped.with_content(&Hashes { sha256: [7; 32], sha1: [0; 20], md5: [0; 16] }).collect();
    assert_eq!(found.len(), 1);
    assert!(found[0].may_be_at(b"/anywhere"));
}

#[test]
fn arguments_are_kept_as_the_kernel_keeps_them() {
    let lists = [
        vec![b"tar".to_vec(), b"-x".to_vec()],
        vec![b"tar".to_vec(), b"with space".to_vec(), Vec::new()],
    ];
    let mut builder = ShippedBuilder::new();
    let system = builder.subject(&ShippedSubject::System).expect("there is room");
    let tar = ShippedFile { path: Some(b"bin/tar"), arguments: &lists, ..ShippedFile::default() };
    builder.add(system, &tar).expect("there is room");
    let shipped = builder.build();
    let file = shipped.at_path(system, b"/usr/bin/tar").next().expect("it is the same folder");
    assert_eq!(file.path(), Some(&b"/bin/tar"[..]));
    let lists: Vec<_> = file.argument_lists().collect();
    assert_eq!(lists, [&b"tar\0-x\0"[..], &b"tar\0with space\0\0"[..]]);
}
