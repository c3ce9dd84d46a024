//! Discovery on synthetic machines whose memory is damaged: pages of zeros, as dumps have them, and
//! wrong values.

mod common;

use std::collections::BTreeSet;

use common::guest::{Arm64, DIRECT_MAP, Guest, Kind, RELEASE};
use panoptes_decoders::paging::aarch64::Granule;
use panoptes_profiles::report::{CandidateRefusal, CheckOutcome};
use panoptes_profiles::{DiscoveryError, DiscoveryOptions, Profile, ProfileFile, discover};

fn find(guest: &mut Guest, options: &DiscoveryOptions<'_>) -> Result<Profile, DiscoveryError> {
    discover(guest, options, &mut ())
}

/// A profile of the kernel of such a guest.
fn profile_of(kind: Kind) -> ProfileFile {
    find(&mut Guest::new(kind), &DiscoveryOptions::default())
        .expect("its kernel is found")
        .to_file()
}

#[test]
fn damaged_types_are_a_profile_that_cannot_be_parsed() {
    let mut guest = Guest::new(Kind::default());
    let btf = guest.image(0x10_0000);
    guest.memory[btf as usize + 24..][..400].fill(0xff);
    let error = find(&mut guest, &DiscoveryOptions::default()).unwrap_err();
    assert_eq!(error.activity(), "profile_parsing_failed");
}

/// One page of them, as in a dump that lacks it.
#[test]
fn the_refusal_of_damaged_types_names_the_way_out() {
    let mut guest = Guest::new(Kind::default());
    let btf = guest.image(0x10_0000);
    zero_page(&mut guest, btf + PAGE as u64);
    let error = find(&mut guest, &DiscoveryOptions::default()).unwrap_err();
    assert_eq!(error.activity(), "profile_parsing_failed");
    let text = error.to_string();
    for part in ["the types in memory are damaged", "panoptes profile build", "os_symbol_path"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let file = [profile_of(Kind::default())];
    let options = DiscoveryOptions { files: &file, ..DiscoveryOptions::default() };
    let profile = find(&mut guest, &options).expect("the profile file has the types");
    assert_eq!(*profile.layouts, guest.layouts);
}

#[test]
fn types_that_a_dump_lacks_are_no_kernel_without_types() {
    let mut guest = Guest::new(Kind::default());
    let btf = guest.image(0x10_0000);
    zero_page(&mut guest, btf);
    let error = find(&mut guest, &DiscoveryOptions::default()).unwrap_err();
    assert_eq!(error.activity(), "no_matching_profile_found");
    let text = error.to_string();
    assert!(text.contains("the memory lacks the kernel's types"), "{text}");
    assert!(text.contains("os_symbol_path"), "{text}");
}

/// A machine without a usable process yields an error, never an empty list.
fn check_verification_fails(damage: impl FnOnce(&mut Guest), expected: &str) {
    let mut guest = Guest::new(Kind::default());
    damage(&mut guest);
    let error = find(&mut guest, &DiscoveryOptions::default()).expect_err("no profile is valid");
    assert_eq!(error.activity(), "profile_verification_failed", "{error}");
    let CandidateRefusal::Verification(checks) = &error.attempts().named[0].refusal else {
        panic!("{error}");
    };
    let failed = |name: &str| {
        checks.iter().any(|check| {
            check.name.contains(name) && matches!(check.outcome, CheckOutcome::Failed(_))
        })
    };
    assert!(failed(expected), "{error}");
}

#[test]
fn no_process_is_an_error() {
    check_verification_fails(
        |guest| {
            let link = guest.init_task + u64::from(guest.layouts.task_struct.tasks.offset);
            let own = 0xffff_ffff_8000_0000 + (38 << 20) + 0x3_0000 + link - guest.init_task;
            guest.word(link, own);
            guest.word(link + 8, own);
            empty_pid_tree(guest);
        },
        "process 1",
    );
}

fn empty_pid_tree(guest: &mut Guest) {
    guest.word(guest.pid_idr_root(), 0);
    // Its page has something else.
    guest.word(guest.pid_namespace() + 0xf00, 1);
}

/// Memory that a dump lacks is no wrong profile: the other views lead to the kernel's objects.
fn check_damage_is_accepted(damage: impl FnOnce(&mut Guest), unread: &str) -> Profile {
    let mut guest = Guest::new(Kind::default());
    damage(&mut guest);
    let profile = find(&mut guest, &DiscoveryOptions::default()).expect("a profile is valid");
    let is_unread = |name: &str| {
        profile.checks.iter().any(|check| {
            check.name.contains(name)
                && matches!(check.outcome, CheckOutcome::Unread(_) | CheckOutcome::Undecided(_))
        })
    };
    assert!(unread.is_empty() || is_unread(unread), "{:?}", profile.checks);
    profile
}

const PAGE: usize = 4096;

const ARM64: Arm64 =
    Arm64 { granule: Granule::Kib4, built_bits: 48, actual_bits: 48, beginning: 0x4000_0000 };

fn zero_page(guest: &mut Guest, physical: u64) {
    let start = physical as usize / PAGE * PAGE;
    guest.memory[start..start + PAGE].fill(0);
}

#[test]
fn a_list_that_leads_into_missing_memory_is_damage() {
    check_damage_is_accepted(
        |guest| {
            let link = guest.init_task + u64::from(guest.layouts.task_struct.tasks.offset);
            // Mapped, and behind the end of memory.
            guest.word(link, DIRECT_MAP + (17 << 20));
        },
        "",
    );
}

#[test]
fn an_init_task_in_a_page_of_zeros_is_damage() {
    let damage = |guest: &mut Guest| {
        for page in 0..4 {
            zero_page(guest, guest.init_task + page * PAGE as u64);
        }
    };
    let profile = check_damage_is_accepted(damage, "init_task");
    assert!(profile.lacks_init_task());
}

#[test]
fn a_pid_namespace_in_a_page_of_zeros_is_damage() {
    let damage = |guest: &mut Guest| zero_page(guest, guest.pid_namespace());
    assert!(!check_damage_is_accepted(damage, "pid namespace").lacks_init_task());
}

#[test]
fn a_release_in_a_page_of_zeros_is_damage() {
    check_damage_is_accepted(|guest| zero_page(guest, guest.image(0x2_0000)), "release");
}

#[test]
fn a_tree_of_pids_without_a_node_is_damage() {
    let tree = |guest: &mut Guest| {
        let node = guest.pid_node();
        zero_page(guest, node);
    };
    check_damage_is_accepted(tree, "pid namespace");
}

/// One of three links contradicts.
#[test]
fn a_short_list_that_does_not_close_is_damage() {
    check_damage_is_accepted(
        |guest| {
            let link = guest.task + u64::from(guest.layouts.task_struct.tasks.offset);
            guest.word(link, DIRECT_MAP + link);
        },
        "tasks of the list",
    );
}

/// Each of these offsets is wrong by eight bytes.
#[test]
fn a_profile_with_one_wrong_offset_is_refused() {
    let text = String::from_utf8(profile_of(Kind::default()).to_bytes()).unwrap();
    let tasks = text.find("\"task_struct\":{").expect("the structure is there");
    for name in ["comm", "tasks", "real_parent", "tgid", "group_leader", "mm", "files"] {
        let name = format!("\"{name}\":[");
        let at = text[tasks..].find(&name).expect("the member is there") + tasks + name.len();
        let end = at + text[at..].find(',').expect("more follows");
        let offset: u32 = text[at..end].parse().expect("an offset");
        let wrong = format!("{}{}{}", &text[..at], offset + 8, &text[end..]);
        let file = [ProfileFile::parse(wrong.as_bytes()).unwrap()];
        let options =
            DiscoveryOptions { files: &file, generate: false, ..DiscoveryOptions::default() };
        let found = find(&mut Guest::new(Kind { btf: false, ..Kind::default() }), &options);
        let error = found.expect_err(&name);
        assert_eq!(error.activity(), "profile_verification_failed", "{name}: {error}");
    }
}

#[test]
fn a_wrong_parent_is_an_error() {
    check_verification_fails(
        |guest| {
            let field = guest.layouts.task_struct.real_parent;
            guest.put(guest.task, field, 0x1234);
        },
        "process 1",
    );
}

#[test]
fn a_tree_of_pids_that_leads_elsewhere_is_an_error() {
    check_verification_fails(empty_pid_tree, "pid namespace");
}

#[test]
fn a_root_of_pids_that_is_no_node_is_an_error() {
    let damage = |guest: &mut Guest| {
        guest.word(guest.pid_idr_root(), DIRECT_MAP + guest.task);
    };
    check_verification_fails(damage, "pid namespace");
}

/// A copy may have what the page of the root held before.
#[test]
fn a_root_of_pids_that_leads_elsewhere_is_damage() {
    let tree = |guest: &mut Guest| {
        let slots = guest.layouts.xa_node.slots.offset;
        let node = guest.pid_node();
        for slot in 0..64 {
            let at = node + u64::from(slots) + slot * 8;
            guest.word(at, DIRECT_MAP + guest.task + slot * 64);
        }
    };
    check_damage_is_accepted(tree, "pid namespace");
}

#[test]
fn a_task_with_the_pid_of_another_is_an_error() {
    let damage = |guest: &mut Guest| {
        let pid = guest.layouts.pid.numbers.offset + guest.layouts.upid.nr.offset;
        guest.word(guest.pid() + u64::from(pid), 7);
    };
    check_verification_fails(damage, "tasks have their pids");
}

/// The physical addresses of all pages that have something.
fn used_pages(guest: &Guest) -> Vec<u64> {
    let pages = guest.memory.chunks(PAGE).enumerate();
    let used = pages.filter(|(_, page)| page.iter().any(|&byte| byte != 0));
    used.map(|(index, _)| (index * PAGE) as u64).collect()
}

/// Zeroes each page in turn; returns those without which the kernel is not found.
fn indispensable(kind: Kind) -> BTreeSet<u64> {
    // A dump may lack a page of the types: a profile file has them, too.
    let file = [profile_of(kind)];
    let whole = Guest::new(kind);
    let mut pages = BTreeSet::new();
    for page in used_pages(&whole) {
        let mut guest = whole.clone();
        zero_page(&mut guest, page);
        match find(&mut guest, &DiscoveryOptions { files: &file, ..DiscoveryOptions::default() }) {
            Ok(profile) => {
                assert_eq!(*profile.layouts, whole.layouts);
                assert_eq!(profile.space.direct_map.start, whole.direct_map(), "{page:#x}");
            }
            Err(error) => {
                println!("{page:#x}: {error}");
                pages.insert(page);
            }
        }
    }
    pages
}

/// The page of the only process.
const PROCESS: u64 = 0x60_0000;

#[test]
fn a_dump_may_lack_any_page_but_that_of_the_only_process() {
    for five_levels in [false, true] {
        // Without the text, the page tables lead to the kernel.
        let pages = indispensable(Kind { five_levels, ..Kind::default() });
        assert_eq!(pages, BTreeSet::from([PROCESS]));
    }
}

/// Besides the only process: VMCOREINFO.
#[test]
fn an_arm64_dump_may_lack_any_page_but_its_vmcoreinfo() {
    let pages = indispensable(Kind { arm64: Some(ARM64), ..Kind::default() });
    assert_eq!(pages, BTreeSet::from([PROCESS, 0xf0_0000]));
}

#[test]
fn an_arm64_dump_may_lack_init_task() {
    let mut guest = Guest::new(Kind { arm64: Some(ARM64), ..Kind::default() });
    for page in 0..4 {
        let at = guest.init_task + page * PAGE as u64;
        zero_page(&mut guest, at);
    }
    let profile =
        find(&mut guest, &DiscoveryOptions::default()).expect("the tree of pids leads to tasks");
    assert_eq!(profile.space.direct_map.start, DIRECT_MAP);
    assert!(profile.lacks_init_task());
}

/// Neither the first task nor `page_offset_base` is in memory.
#[test]
fn the_tree_of_pids_alone_leads_to_the_direct_map() {
    let mut guest = Guest::new(Kind::default());
    for offset in [0x3_0000, 0x3_1000, 0x3_2000, 0x3_3000, 0x3_9000] {
        let at = guest.image(offset);
        zero_page(&mut guest, at);
    }
    let profile =
        find(&mut guest, &DiscoveryOptions::default()).expect("the tree of pids leads to tasks");
    assert_eq!(profile.space.direct_map.start, DIRECT_MAP);
}

/// A user's process in the guest wrote the text. No table contradicts it, for it is in zeros.
#[test]
fn a_text_whose_tables_are_zeros_is_no_kernel() {
    let mut guest = Guest::new(Kind::default());
    let text = "OSRELEASE=9.9.9\nSYMBOL(swapper_pg_dir)=ffffffff81f00000\n\
                SYMBOL(_stext)=ffffffff81000000\nSYMBOL(init_uts_ns)=ffffffff81000000\n\
                NUMBER(phys_base)=-16777216\n";
    guest.text(0x10_0000, text);
    assert_eq!(find(&mut guest, &DiscoveryOptions::default()).unwrap().release, RELEASE);
    let mut guest = Guest::empty();
    guest.text(0x10_0000, text);
    let error = find(&mut guest, &DiscoveryOptions::default()).unwrap_err();
    assert_eq!(error.activity(), "unable_to_determine_target_os");
}

/// As a test of a kernel without types makes it: their magic number is away, not their page.
#[test]
fn a_dump_with_the_page_of_its_types_but_no_types_has_no_profile() {
    let mut guest = Guest::new(Kind::default());
    let btf = guest.image(0x10_0000) as usize;
    guest.memory[btf..btf + 4].fill(0);
    let error = find(&mut guest, &DiscoveryOptions::default()).unwrap_err();
    assert_eq!(error.activity(), "no_matching_profile_found");
    assert!(error.to_string().contains("no BTF was found"), "{error}");
}
