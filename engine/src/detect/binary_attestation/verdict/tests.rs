//! Every rule, and the cases that must raise no alert under it.

use proptest::prelude::*;

use super::*;
use crate::page_cache::{ContentFormat, ElfKind, PageDigest, PageMatcher};
use crate::shipped::{ShippedBuilder, ShippedFile, ShippedSubject};

const ELF: ContentFormat = ContentFormat::Elf(ElfKind::Executable);

fn hashes(byte: u8) -> Hashes {
    Hashes { sha256: [byte; 32], sha1: [byte; 20], md5: [byte; 16] }
}

fn page(byte: u8) -> PageDigest {
    [byte; 16]
}

/// What an SBOM contains about one file.
#[derive(Clone, Copy, Default)]
struct Entry<'a> {
    path: Option<&'a str>,
    size: Option<u64>,
    sha256: Option<u8>,
    md5: Option<u8>,
    pages: &'a [PageDigest],
}

fn add(builder: &mut ShippedBuilder, subject: &ShippedSubject<'_>, entries: &[Entry<'_>]) {
    let subject = builder.subject(subject).expect("there is room");
    for entry in entries {
        let file = ShippedFile {
            path: entry.path.map(str::as_bytes),
            size: entry.size,
            sha256: entry.sha256.map(|byte| [byte; 32]),
            md5: entry.md5.map(|byte| [byte; 16]),
            pages: entry.pages,
            ..ShippedFile::default()
        };
        builder.add(subject, &file).expect("there is room");
    }
}

fn system(entries: &[Entry<'_>]) -> ShippedFiles {
    let mut builder = ShippedBuilder::new();
    add(&mut builder, &ShippedSubject::System, entries);
    builder.build()
}

/// A file that runs.
#[derive(Clone, Copy)]
struct Running<'a> {
    role: Role,
    path: &'a str,
    is_memfd: bool,
    size: u64,
    outcome: Option<HashOutcome>,
    ran_before: &'a [Hashes],
}

fn running(path: &str, size: u64, content: u8) -> Running<'_> {
    let outcome = Some(HashOutcome::Whole { hashes: hashes(content) });
    Running { role: Role::Program, path, is_memfd: false, size, outcome, ran_before: &[] }
}

fn ask(
    shipped: &ShippedFiles,
    applied: &ProcessSubjects,
    running: Running<'_>,
) -> AttestationVerdict {
    let known = running.outcome.map(|outcome| ContentFacts {
        outcome,
        format: ELF,
        traits: crate::page_cache::Traits::default(),
    });
    decide(&AttestationQuestion {
        shipped,
        applied,
        role: running.role,
        path: Some(running.path.as_bytes()),
        is_memfd: running.is_memfd,
        size: running.size,
        known: known.as_ref(),
        ran_before: running.ran_before,
    })
}

fn outside(shipped: &ShippedFiles, running: Running<'_>) -> AttestationVerdict {
    ask(shipped, &shipped.of_system(), running)
}

/// The verdict in a word or two.
fn word(verdict: AttestationVerdict) -> &'static str {
    match verdict {
        AttestationVerdict::Fine => "fine",
        AttestationVerdict::Open { otherwise: None } => "open",
        AttestationVerdict::Open { otherwise: Some(finding) } => match finding.wrong {
            FileFault::Foreign { other_size: Some(_), .. } => "open, else other size",
            _ => "open, else foreign",
        },
        AttestationVerdict::Alert(finding) => match finding.wrong {
            FileFault::Foreign { other_size: Some(_), .. } => "foreign, other size",
            FileFault::Foreign { instead: Some(_), .. } => "modified",
            FileFault::Foreign { .. } => "foreign",
            FileFault::Elsewhere { .. } => "elsewhere",
            FileFault::Arguments { .. } => "arguments",
        },
    }
}

fn ls() -> Entry<'static> {
    Entry { path: Some("/usr/bin/ls"), size: Some(100), sha256: Some(1), ..Entry::default() }
}

#[test]
fn a_process_without_a_reference_is_not_checked() {
    let mut builder = ShippedBuilder::new();
    add(&mut builder, &ShippedSubject::System, &[ls()]);
    let patterns = ["web".to_owned()];
    let web =
        ShippedSubject::Image { name: None, digest: None, containers: &patterns, entrypoint: &[] };
    add(&mut builder, &web, &[Entry { sha256: Some(2), ..ls() }]);
    let shipped = builder.build();
    let evil = running("/tmp/evil", 5, 9);
    assert_eq!(word(outside(&shipped, evil)), "foreign");
    let unknown = shipped.of_container(b"db", None, None);
    assert_eq!(word(ask(&shipped, &unknown, evil)), "fine", "a container of an unknown image");
    let known = shipped.of_container(b"web", None, None);
    assert_eq!(word(ask(&shipped, &known, evil)), "foreign");
    let systems = running("/bin/ls", 100, 1);
    assert_eq!(word(ask(&shipped, &known, systems)), "modified", "the system's is not the image's");
    assert_eq!(word(outside(&shipped, systems)), "fine");
    assert_eq!(word(ask(&shipped, &known, running("/bin/ls", 100, 2))), "fine");
}

#[test]
fn shipped_content_is_fine_where_it_was_shipped() {
    let copy = Entry { path: Some("/opt/ls"), ..ls() };
    let approved = Entry { sha256: Some(7), ..Entry::default() };
    let shipped = system(&[ls(), copy, approved]);
    assert_eq!(word(outside(&shipped, running("/usr/bin/ls", 100, 1))), "fine");
    assert_eq!(word(outside(&shipped, running("/bin/ls", 100, 1))), "fine", "merged folders");
    assert_eq!(word(outside(&shipped, running("/opt/ls", 100, 1))), "fine", "a hard link");
    assert_eq!(word(outside(&shipped, running("/tmp/ls", 100, 1))), "elsewhere");
    assert_eq!(word(outside(&shipped, running("/tmp/any", 55, 7))), "fine", "approved anywhere");
    assert_eq!(
        word(outside(&shipped, running("/", 100, 1))),
        "fine",
        "mounted by itself, detached"
    );
    assert_eq!(word(outside(&shipped, running("/", 100, 9))), "foreign");
    let library = Running { role: Role::Library, ..running("/tmp/ls", 100, 1) };
    assert_eq!(word(outside(&shipped, library)), "fine", "a copy of a library is no foreign one");
}

#[test]
fn other_content_is_foreign() {
    let shipped = system(&[ls()]);
    for role in [Role::Program, Role::Library] {
        let ask = |path, size| word(outside(&shipped, Running { role, ..running(path, size, 9) }));
        assert_eq!(ask("/usr/bin/ls", 100), "modified");
        assert_eq!(ask("/usr/bin/ls", 101), "foreign, other size");
        assert_eq!(ask("/tmp/x", 100), "foreign");
    }
    let two = system(&[ls(), Entry { size: Some(101), sha256: Some(2), ..ls() }]);
    assert_eq!(word(outside(&two, running("/bin/ls", 101, 9))), "modified", "one of two versions");
    let nameless = Entry { path: Some("/bin/x"), ..Entry::default() };
    let shipped = system(&[nameless]);
    assert_eq!(word(outside(&shipped, running("/bin/x", 1, 9))), "fine", "the SBOM has no hash");
}

#[test]
fn the_strongest_hash_decides() {
    let shipped = system(&[
        Entry { path: Some("/bin/a"), md5: Some(1), ..Entry::default() },
        Entry { path: Some("/bin/b"), sha256: Some(1), md5: Some(2), ..Entry::default() },
    ]);
    let content = |sha256, md5| HashOutcome::Whole {
        hashes: Hashes { sha256: [sha256; 32], sha1: [0; 20], md5: [md5; 16] },
    };
    let ask = |path, outcome| {
        word(outside(&shipped, Running { outcome: Some(outcome), ..running(path, 10, 0) }))
    };
    assert_eq!(ask("/bin/a", content(9, 1)), "fine", "there is only MD5");
    assert_eq!(ask("/bin/b", content(1, 9)), "fine");
    assert_eq!(ask("/bin/b", content(9, 2)), "modified", "MD5 alone can be made equal");
}

#[test]
fn unknown_content_is_open_unless_the_size_suffices() {
    let shipped = system(&[ls()]);
    for outcome in [None, Some(HashOutcome::Nothing)] {
        let ask =
            |path, size| word(outside(&shipped, Running { outcome, ..running(path, size, 0) }));
        assert_eq!(ask("/bin/ls", 100), "open");
        assert_eq!(ask("/bin/ls", 99), "open, else other size");
        assert_eq!(ask("/tmp/x", 99), "open, else foreign", "nothing of that size was shipped");
        assert_eq!(ask("/tmp/x", 100), "open");
    }
    let list = system(&[Entry { sha256: Some(1), ..Entry::default() }]);
    let unknown = Running { outcome: None, ..running("/tmp/x", 99, 0) };
    assert_eq!(word(outside(&list, unknown)), "open", "a list of hashes knows no sizes");
}

/// The index's answer for a file of three pages of which some are mapped.
fn partial(shipped: &ShippedFiles, size: u64, pages: &[(u32, PageDigest)]) -> HashOutcome {
    let best_match = shipped.best_match(size, pages);
    HashOutcome::Partial(Partial { pages: 3, resident: pages.len() as u32, best_match })
}

const SIZE: u64 = 3 * 4096;

fn paged<'a>(path: &'a str, sha256: u8, pages: &'a [PageDigest]) -> Entry<'a> {
    Entry { path: Some(path), size: Some(SIZE), sha256: Some(sha256), pages, ..Entry::default() }
}

#[test]
fn parts_are_compared_and_what_is_missing_is_no_mismatch() {
    let (own, other) = ([page(1), page(2), page(3)], [page(4), page(5), page(3)]);
    let shipped = system(&[paged("/bin/a", 1, &own), paged("/bin/b", 2, &other)]);
    let ask = |path, size, pages: &[(u32, PageDigest)]| {
        let outcome = Some(partial(&shipped, size, pages));
        word(outside(&shipped, Running { outcome, ..running(path, size, 0) }))
    };
    assert_eq!(ask("/bin/a", SIZE, &[(0, page(1))]), "open", "so far it is what it should be");
    assert_eq!(ask("/bin/a", SIZE, &[(0, page(1)), (1, page(9))]), "modified");
    assert_eq!(ask("/bin/a", SIZE, &[(2, page(3))]), "open", "in this page both are alike");
    assert_eq!(ask("/tmp/a", SIZE, &[(2, page(3))]), "open", "a copy, but of which");
    assert_eq!(ask("/tmp/a", SIZE, &[(0, page(1))]), "elsewhere");
    assert_eq!(ask("/bin/b", SIZE, &[(0, page(1))]), "elsewhere", "one in the place of another");
    assert_eq!(ask("/tmp/x", SIZE, &[(0, page(9))]), "foreign");
    assert_eq!(ask("/tmp/x", 5 * 4096, &[(0, page(1))]), "foreign", "nothing has that size");
    assert_eq!(ask("/bin/a", 5 * 4096, &[(0, page(1))]), "foreign, other size");
    assert_eq!(ask("/bin/a", SIZE, &[]), "open");
}

#[test]
fn parts_decide_nothing_where_pages_are_not_known() {
    let own = [page(1), page(2), page(3)];
    let part = [(0, page(9))];
    // Only hashes of whole files.
    let list = system(&[Entry { sha256: Some(1), ..Entry::default() }]);
    let outcome = Some(partial(&list, SIZE, &part));
    assert_eq!(word(outside(&list, Running { outcome, ..running("/tmp/x", SIZE, 0) })), "open");
    let sizes = system(&[Entry { pages: &[], ..paged("/bin/a", 1, &[]) }]);
    let outcome = Some(partial(&sizes, SIZE, &part));
    assert_eq!(word(outside(&sizes, Running { outcome, ..running("/bin/a", SIZE, 0) })), "open");
    assert_eq!(word(outside(&sizes, Running { outcome, ..running("/tmp/x", SIZE, 0) })), "open");
    // Both: it may be the approved content, unless another file was shipped at its path.
    let both = system(&[paged("/bin/a", 1, &own), Entry { sha256: Some(2), ..Entry::default() }]);
    let outcome = Some(partial(&both, SIZE, &part));
    assert_eq!(word(outside(&both, Running { outcome, ..running("/tmp/x", SIZE, 0) })), "open");
    let verdict = outside(&both, Running { outcome, ..running("/bin/a", SIZE, 0) });
    assert_eq!(word(verdict), "modified");
    let AttestationVerdict::Alert(Deviation { basis: Basis::Parts { others, .. }, .. }) = verdict
    else {
        panic!("{verdict:?}");
    };
    assert!(others, "the lower confidence is recorded");
    // Another version at the same path, of which only hashes are known.
    let versions = system(&[
        paged("/bin/a", 1, &own),
        Entry { path: Some("/bin/a"), md5: Some(2), ..Entry::default() },
    ]);
    let outcome = Some(partial(&versions, SIZE, &part));
    assert_eq!(word(outside(&versions, Running { outcome, ..running("/bin/a", SIZE, 0) })), "open");
}

#[test]
fn parts_of_what_does_not_apply_are_foreign() {
    let (own, other) = ([page(1), page(2), page(3)], [page(4), page(5), page(6)]);
    let patterns = ["web".to_owned()];
    let web =
        ShippedSubject::Image { name: None, digest: None, containers: &patterns, entrypoint: &[] };
    let mut builder = ShippedBuilder::new();
    add(&mut builder, &ShippedSubject::System, &[paged("/bin/a", 1, &own)]);
    add(&mut builder, &web, &[paged("/bin/a", 2, &other)]);
    let shipped = builder.build();
    let outcome = Some(partial(&shipped, SIZE, &[(0, page(4))]));
    let running = Running { outcome, ..running("/bin/a", SIZE, 0) };
    assert_eq!(word(outside(&shipped, running)), "modified");
    let in_web = shipped.of_container(b"web", None, None);
    assert_eq!(word(ask(&shipped, &in_web, running)), "open");
}

#[test]
fn scripts_are_checked_only_at_paths_that_were_shipped() {
    let shipped = system(&[Entry { path: Some("/etc/rc"), ..ls() }]);
    let script = |path, size, content| {
        let running = Running { role: Role::Script, ..running(path, size, content) };
        word(outside(&shipped, running))
    };
    assert_eq!(script("/etc/rc", 100, 1), "fine");
    assert_eq!(script("/etc/rc", 100, 9), "modified");
    assert_eq!(script("/etc/rc", 90, 9), "foreign, other size");
    assert_eq!(script("/home/x.sh", 100, 9), "fine", "scripts of users are no binaries");
    assert_eq!(script("/home/rc", 100, 1), "fine", "a copy of a script");
}

#[test]
fn programs_without_a_file_are_fine_only_as_copies_of_what_ran_before() {
    let shipped = system(&[Entry { path: Some("/usr/bin/runc"), ..ls() }]);
    let memfd = |content, ran_before: &[Hashes]| {
        let running = running("/memfd:x", 100, content);
        word(outside(&shipped, Running { is_memfd: true, ran_before, ..running }))
    };
    assert_eq!(memfd(1, &[]), "elsewhere", "shipped content, run without a file");
    assert_eq!(memfd(1, &[hashes(2)]), "elsewhere");
    assert_eq!(memfd(1, &[hashes(1)]), "fine", "a runtime's copy of itself");
    assert_eq!(memfd(9, &[hashes(9)]), "foreign", "its parent was foreign too");
    let clone = |content| {
        let running = running("/memfd:runc_cloned:/proc/self/exe", 100, content);
        word(outside(&shipped, Running { is_memfd: true, ..running }))
    };
    assert_eq!(clone(1), "fine", "one that is called so");
    assert_eq!(clone(9), "foreign", "the name alone proves nothing");
    let approved = system(&[Entry { sha256: Some(1), ..Entry::default() }]);
    let running = Running { is_memfd: true, ..running("/memfd:x", 100, 1) };
    assert_eq!(word(outside(&approved, running)), "fine", "approved wherever it is");
}

/// Files with everything that an SBOM may contain, or less.
fn entries() -> impl Strategy<Value = Vec<(u8, Vec<u8>, u8)>> {
    let content = prop::collection::vec(0u8..3, 1..4);
    prop::collection::vec((0u8..4, content, 0u8..8), 1..6)
}

/// A page, and the content it stands for.
fn hash_of(content: &[u8]) -> u8 {
    content.iter().fold(1, |hash, &byte| hash * 3 + byte)
}

proptest! {
    /// Shipped content is never called foreign, whatever else was shipped and whichever parts are
    /// mapped.
    #[test]
    fn what_was_shipped_is_never_called_foreign(
        entries in entries(),
        chosen in any::<prop::sample::Index>(),
        resident in prop::collection::vec(any::<bool>(), 4),
        whole in 0u8..3,
    ) {
        let pages: Vec<Vec<PageDigest>> =
            entries.iter().map(|(_, content, _)| content.iter().map(|&byte| page(byte)).collect())
                .collect();
        let paths: Vec<String> = entries.iter().map(|(name, ..)| format!("/bin/{name}")).collect();
        let described = entries.iter().zip(&pages).zip(&paths);
        let described = described.map(|(((_, content, left_out), pages), path)| Entry {
            path: Some(path),
            size: (left_out & 1 == 0).then_some(content.len() as u64 * 4096),
            sha256: (left_out & 2 == 0).then(|| hash_of(content)),
            md5: Some(hash_of(content)),
            pages: if left_out & 4 == 0 { pages } else { &[] },
        });
        let described: Vec<Entry<'_>> = described.collect();
        let shipped = system(&described);
        let index = chosen.index(entries.len());
        let content = &entries[index].1;
        let size = content.len() as u64 * 4096;
        let there: Vec<(u32, PageDigest)> = (0..).zip(&pages[index])
            .filter(|(at, _)| resident[*at as usize]).map(|(at, &page)| (at, page)).collect();
        let outcome = match whole {
            0 => Some(HashOutcome::Whole { hashes: hashes(hash_of(content)) }),
            1 => Some(partial(&shipped, size, &there)),
            _ => None,
        };
        for role in [Role::Program, Role::Library, Role::Script] {
            let running = Running { role, outcome, ..running(&paths[index], size, 0) };
            let verdict = outside(&shipped, running);
            let has_no_alert = matches!(
                verdict,
                AttestationVerdict::Fine | AttestationVerdict::Open { otherwise: None }
            );
            prop_assert!(has_no_alert, "{:?}", verdict);
        }
    }
}
