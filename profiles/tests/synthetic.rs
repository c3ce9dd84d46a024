//! Discovery on small synthetic machines: every method, forgeries, and damage.

mod common;

use common::guest::{Arm64, BUILD_ID, DIRECT_MAP, Guest, Kind, RELEASE, VMEMMAP};
use panoptes_decoders::paging::aarch64::Granule;
use panoptes_decoders::paging::{PageTableLevels, x86_64};
use panoptes_decoders::source::MemorySource as _;
use panoptes_profiles::report::{CandidateRefusal, KernelEvidence, LayoutOrigin};
use panoptes_profiles::{DiscoveryError, DiscoveryOptions, Event, Profile, ProfileFile, discover};
use proptest::prelude::*;

fn find(guest: &mut Guest, options: &DiscoveryOptions<'_>) -> Result<Profile, DiscoveryError> {
    discover(guest, options, &mut ())
}

fn without_vmcoreinfo() -> DiscoveryOptions<'static> {
    DiscoveryOptions { use_vmcoreinfo: false, ..DiscoveryOptions::default() }
}

fn without_kallsyms() -> DiscoveryOptions<'static> {
    DiscoveryOptions { use_kallsyms: false, ..DiscoveryOptions::default() }
}

#[test]
fn every_method_leads_to_the_same_kernel() {
    for five_levels in [false, true] {
        for vmcoreinfo in [Some(0xf0_0000), Some(0xf0_0018), Some(0xf0_0123), None] {
            for options in [DiscoveryOptions::default(), without_kallsyms(), without_vmcoreinfo()] {
                let mut guest = Guest::new(Kind { five_levels, vmcoreinfo, ..Kind::default() });
                let direct_map = guest.direct_map();
                let profile = find(&mut guest, &options).expect("the kernel is found");
                assert_eq!(profile.release, RELEASE);
                assert_eq!(*profile.layouts, guest.layouts);
                let levels =
                    if five_levels { x86_64::X86Levels::Five } else { x86_64::X86Levels::Four };
                assert_eq!(profile.space.levels, PageTableLevels::X86_64(levels));
                assert_eq!(profile.space.direct_map.start, direct_map);
                assert_eq!(profile.space.vmemmap_base, VMEMMAP);
                assert_eq!(profile.space.root.0, guest.image(0x1_0000));
                assert_eq!(profile.space.image.end - profile.space.image.start, 4 << 20);
                let found = profile.symbols;
                let init_task = found.init_task.unwrap();
                assert_eq!(profile.space.linear(init_task).unwrap().0, guest.init_task);
                assert!(found.init_pid_ns.is_some() && found.init_net.is_some());
                assert!(found.tcp_hashinfo.is_some());
                let by_text = options.use_vmcoreinfo && vmcoreinfo.is_some();
                let trace =
                    if by_text { KernelEvidence::Vmcoreinfo } else { KernelEvidence::PageTables };
                assert_eq!(profile.trace, trace);
                assert_eq!(profile.build_id.as_deref(), by_text.then_some(BUILD_ID));
                assert_eq!(profile.timekeeper.is_some(), by_text && options.use_kallsyms);
            }
        }
    }
}

const fn arm64(granule: Granule, built_bits: u32, actual_bits: u32, beginning: u64) -> Arm64 {
    Arm64 { granule, built_bits, actual_bits, beginning }
}

#[test]
fn arm64_kernels_and_the_start_of_their_memory_are_found() {
    for kind in [
        arm64(Granule::Kib4, 48, 48, 0x4000_0000),
        arm64(Granule::Kib4, 52, 48, 0),
        arm64(Granule::Kib4, 52, 52, 0x40_8000_0000),
        arm64(Granule::Kib16, 47, 47, 0x4000_0000),
        arm64(Granule::Kib16, 52, 52, 0x4000_0000),
        arm64(Granule::Kib64, 48, 48, 0x1_2000_0000),
        arm64(Granule::Kib64, 52, 48, 0x4000_0000),
    ] {
        for options in [DiscoveryOptions::default(), without_kallsyms()] {
            let mut guest = Guest::new(Kind { arm64: Some(kind), ..Kind::default() });
            let profile =
                find(&mut guest, &options).unwrap_or_else(|error| panic!("{kind:x?}: {error}"));
            let space = &profile.space;
            assert_eq!(space.levels, PageTableLevels::Aarch64(kind.levels()), "{kind:x?}");
            assert_eq!(guest.regions()[0].start, kind.beginning, "{kind:x?}");
            assert_eq!(space.direct_map.start, DIRECT_MAP);
            assert_eq!(space.direct_map_physical.0, kind.beginning);
            let frames = kind.beginning / kind.levels().bytes(1);
            assert_eq!(space.vmemmap_base, VMEMMAP.wrapping_sub(frames * 64));
            assert_eq!(space.image.end - space.image.start, 4 << 20);
            let init_task = profile.symbols.init_task.unwrap();
            let physical = space.linear(init_task).unwrap();
            assert_eq!(physical.0, kind.beginning + guest.init_task);
            // Again, with the memory at its address already.
            let again = find(&mut guest, &options).unwrap();
            assert_eq!(again.space, profile.space);
            assert_eq!(guest.regions()[0].start, kind.beginning);
        }
    }
}

#[test]
fn memory_with_known_addresses_is_not_moved() {
    let kind = arm64(Granule::Kib4, 48, 48, 0x4000_0000);
    let mut guest = Guest::new(Kind { arm64: Some(kind), ..Kind::default() });
    guest.movable = false;
    let error = find(&mut guest, &DiscoveryOptions::default()).unwrap_err();
    assert_eq!(error.activity(), "unable_to_determine_target_os");
    assert_eq!(guest.regions()[0].start, 0);
}

/// An attacker in an x86-64 guest writes the texts and tables of an arm64 kernel.
#[test]
fn a_forgery_of_another_architecture_moves_nothing() {
    let forged = arm64(Granule::Kib4, 48, 48, 0x4000_0000);
    let mut guest = Guest::empty();
    let kind = Kind { arm64: Some(forged), calendar_seconds: 1, ..Kind::default() };
    guest.boot(kind, 2 << 20);
    guest.boot(Kind { vmcoreinfo: Some(0xf0_2000), ..Kind::default() }, 10 << 20);
    let profile = find(&mut guest, &DiscoveryOptions::default()).unwrap();
    assert_eq!(profile.space.levels, PageTableLevels::X86_64(x86_64::X86Levels::Four));
    assert_eq!(guest.regions()[0].start, 0);
    assert_eq!(profile.space.image_physical.0, 10 << 20);
}

#[test]
fn forged_texts_are_refused_and_the_true_one_found() {
    let mut guest = Guest::new(Kind::default());
    for (page, text) in [
        "OSRELEASE=%s\nBUILD-ID=%20phN\n",
        "OSRELEASE=6.1.0\nPAGESIZE=4096\n",
        "OSRELEASE=6.1.0\nSYMBOL(swapper_pg_dir)=ffffffff81000000\n\
         SYMBOL(_stext)=ffffffff81000000\nSYMBOL(init_uts_ns)=ffffffff81000000\n\
         NUMBER(phys_base)=0\n",
        "OSRELEASE=6.1.0\nSYMBOL(swapper_pg_dir)=ffffffffffffffff\nSYMBOL(_stext)=0\n\
         SYMBOL(init_uts_ns)=0\nNUMBER(phys_base)=-1\n",
        "OSRELEASE=6.1.0\nSYMBOL(swapper_pg_dir)=0\nSYMBOL(_stext)=0\nSYMBOL(init_uts_ns)=0\n\
         NUMBER(phys_base)=9223372036854775807\nNUMBER(sme_mask)=1\n",
    ]
    .iter()
    .enumerate()
    {
        guest.text(0x10_0000 + page as u64 * 0x1000, text);
    }
    let mut refused = Vec::new();
    let profile = discover(&mut guest, &DiscoveryOptions::default(), &mut |event: Event<'_>| {
        if let Event::CandidateRefused(attempt) = event {
            refused.push(attempt.refusal.clone());
        }
    });
    assert_eq!(profile.unwrap().release, RELEASE);
    assert_eq!(refused.len(), 5);
    assert!(matches!(refused[2], CandidateRefusal::PageTables { .. }), "{refused:?}");
    assert_eq!(refused[4], CandidateRefusal::Encrypted);
}

#[test]
fn a_text_with_a_wrong_release_is_refused() {
    let mut guest = Guest::new(Kind::default());
    guest.text(0xf0_0018 + 10, "9.9.9-test\nBUILD-ID=00\n");
    // The rest of the text still follows: only the release and the build id differ.
    let end = 0xf0_0018 + 10 + "9.9.9-test\nBUILD-ID=00\n".len();
    guest.memory[end] = b'\n';
    let mut first = None;
    let _ = discover(&mut guest, &DiscoveryOptions::default(), &mut |event: Event<'_>| {
        if let Event::CandidateRefused(attempt) = event {
            first.get_or_insert(attempt.refusal.clone());
        }
    });
    assert_eq!(first, Some(CandidateRefusal::Release { found: RELEASE.to_owned() }));
}

#[test]
fn after_a_warm_reboot_the_running_kernel_is_used() {
    for (first, second) in [(1_750_000_000, 1_750_000_900), (1_750_000_900, 1_750_000_000)] {
        let mut guest = Guest::empty();
        guest.boot(Kind { calendar_seconds: first, ..Kind::default() }, 2 << 20);
        let kind =
            Kind { calendar_seconds: second, vmcoreinfo: Some(0xf0_2000), ..Kind::default() };
        guest.boot(kind, 10 << 20);
        let profile = find(&mut guest, &DiscoveryOptions::default()).unwrap();
        assert_eq!(profile.calendar_seconds, Some(1_750_000_900));
        let expected = if first > second { 2 << 20 } else { 10 << 20 };
        assert_eq!(profile.space.image_physical.0, expected);
        let options = DiscoveryOptions { look_for_newer: false, ..DiscoveryOptions::default() };
        let hasty = find(&mut guest, &options).unwrap();
        assert_eq!(hasty.space.image_physical.0, 2 << 20);
    }
}

#[test]
fn memory_without_a_kernel_is_an_error() {
    let error = find(&mut Guest::empty(), &DiscoveryOptions::default()).unwrap_err();
    assert_eq!(error.activity(), "unable_to_determine_target_os");
    assert_eq!(error.attempts().count, 0);
}

#[test]
fn a_kernel_without_types_has_no_profile() {
    let mut guest = Guest::new(Kind { btf: false, ..Kind::default() });
    let error = find(&mut guest, &DiscoveryOptions::default()).unwrap_err();
    assert_eq!(error.activity(), "no_matching_profile_found");
    assert!(error.to_string().contains(RELEASE), "{error}");
}

/// A profile of the guests' kernel.
fn profile_file() -> ProfileFile {
    let profile = find(&mut Guest::new(Kind::default()), &DiscoveryOptions::default())
        .expect("its kernel is found");
    profile.to_file()
}

/// Built without `CONFIG_KEXEC_CORE`: nothing in memory shows the build id.
#[test]
fn a_kernel_without_vmcoreinfo_takes_the_profile_of_its_release() {
    let kind = Kind { vmcoreinfo: None, btf: false, ..Kind::default() };
    let mut guest = Guest::new(kind);
    let file = [profile_file()];
    for generate in [false, true] {
        let options = DiscoveryOptions { files: &file, generate, ..DiscoveryOptions::default() };
        let profile = find(&mut guest, &options).expect("the release is the same");
        assert_eq!(*profile.layouts, guest.layouts);
        assert_eq!(profile.origin, LayoutOrigin::File { build_id: BUILD_ID.to_owned() });
        assert_eq!(profile.build_id, None);
    }
    let error = find(&mut guest, &DiscoveryOptions::default()).unwrap_err();
    assert_eq!(error.activity(), "no_matching_profile_found");
    // Types in memory are exact: the file may be of another build with that release.
    let mut source = Guest::new(Kind { btf: true, ..kind });
    let options = DiscoveryOptions { files: &file, ..DiscoveryOptions::default() };
    let profile = find(&mut source, &options).unwrap();
    assert!(matches!(profile.origin, LayoutOrigin::Btf { .. }), "{:?}", profile.origin);
    // One that is made of such a memory serves the same kernel.
    let file = [profile.to_file()];
    assert_eq!(file[0].build_id, "");
    let options = DiscoveryOptions { files: &file, generate: false, ..DiscoveryOptions::default() };
    assert_eq!(*find(&mut guest, &options).unwrap().layouts, guest.layouts);
}

/// The checks decide among the profiles of several kernels of one release.
#[test]
fn a_kernel_without_vmcoreinfo_takes_the_profile_that_fits() {
    let mut guest = Guest::new(Kind { vmcoreinfo: None, btf: false, ..Kind::default() });
    let text = String::from_utf8(profile_file().to_bytes()).unwrap();
    let wrong = text.replacen("\"comm\":[", "\"comm\":[1", 1).replace(BUILD_ID, "ab12");
    let parse = |text: &str| ProfileFile::parse(text.as_bytes()).unwrap();
    let files = [parse(&wrong), parse(&text)];
    let options =
        DiscoveryOptions { files: &files, generate: false, ..DiscoveryOptions::default() };
    let profile = find(&mut guest, &options).expect("the second file fits");
    assert_eq!(profile.origin, LayoutOrigin::File { build_id: BUILD_ID.to_owned() });
    // With VMCOREINFO, a profile of another build is never tried.
    let mut guest = Guest::new(Kind { btf: false, ..Kind::default() });
    let options =
        DiscoveryOptions { files: &files[..1], generate: false, ..DiscoveryOptions::default() };
    let error = find(&mut guest, &options).unwrap_err();
    assert_eq!(error.activity(), "no_matching_profile_found");
}

/// Each file costs a try, so their number is bounded.
#[test]
fn a_refusal_names_the_number_of_profiles_that_were_not_tried() {
    let mut guest = Guest::new(Kind { vmcoreinfo: None, btf: false, ..Kind::default() });
    let text = String::from_utf8(profile_file().to_bytes()).unwrap();
    let wrong = text.replacen("\"comm\":[", "\"comm\":[1", 1).replace(BUILD_ID, "ab12");
    let files = vec![ProfileFile::parse(wrong.as_bytes()).unwrap(); 19];
    let of = |files| DiscoveryOptions { files, generate: false, ..DiscoveryOptions::default() };
    let error = find(&mut guest, &of(&files)).unwrap_err().to_string();
    assert!(error.contains("; 3 more profiles for its release were not tried"), "{error}");
    let error = find(&mut guest, &of(&files[..16])).unwrap_err().to_string();
    assert!(!error.contains("not tried"), "{error}");
}

/// As made of a kernel's headers, which have neither symbols nor a build id.
#[test]
fn a_profile_of_types_alone_takes_the_symbols_from_memory() {
    let text = String::from_utf8(profile_file().to_bytes()).unwrap();
    let start = text.find("\"symbols\":{").expect("symbols") + "\"symbols\":{".len();
    let end = start + text[start..].find('}').expect("their end");
    let text = format!("{}{}", &text[..start], &text[end..]).replace(BUILD_ID, "");
    let file = [ProfileFile::parse(text.as_bytes()).unwrap()];
    for vmcoreinfo in [Some(0xf0_0018), None] {
        for use_kallsyms in [true, false] {
            let mut guest = Guest::new(Kind { vmcoreinfo, btf: false, ..Kind::default() });
            let options = DiscoveryOptions {
                files: &file,
                generate: false,
                use_kallsyms,
                ..DiscoveryOptions::default()
            };
            let profile = find(&mut guest, &options).expect("the types are enough");
            assert_eq!(*profile.layouts, guest.layouts);
            assert!(profile.symbols.init_task.is_some());
        }
    }
}

/// Memory of a machine with only a VMCOREINFO text, in the form of its kernel's architecture.
fn error_of_text(lines: &str) -> DiscoveryError {
    let mut guest = Guest::empty();
    guest.text(0x10_0000, &format!("OSRELEASE={lines}"));
    find(&mut guest, &DiscoveryOptions::default()).expect_err("it is not supported")
}

#[test]
fn a_kernel_that_is_not_supported_is_named_in_one_sentence() {
    let old = format!("SIZE(list_head)=16\nSYMBOL(_stext)={:x}\n", 0xffff_ffff_8100_0000_u64);
    for (lines, expected) in [
        (
            "6.1.0-50-686-pae\nPAGESIZE=4096\nSYMBOL(_stext)=d2c00000\nSIZE(list_head)=8\n\
             CONFIG_X86_PAE=y\n"
                .to_owned(),
            "Linux 6.1.0-50-686-pae was found in this memory; 32-bit kernels are not supported, \
             only amd64 and arm64",
        ),
        (
            "6.1.0\nPAGESIZE=4096\nSYMBOL(_stext)=60001000\nSIZE(list_head)=16\n".to_owned(),
            "Linux 6.1.0 was found in this memory; user-mode Linux is not supported, only kernels \
             of whole machines",
        ),
        (
            format!("4.19.0-27-amd64\nPAGESIZE=4096\n{old}NUMBER(phys_base)=0\n"),
            "Linux 4.19.0-27-amd64 was found in this memory; kernels before 5.10 are not \
             supported, see docs/kernels.md",
        ),
        (
            format!("3.10.0\nPAGESIZE=4096\n{old}SYMBOL(phys_base)=ffffffff81a0a010\n"),
            "Linux 3.10.0 was found in this memory; kernels before 5.10 are not supported, see \
             docs/kernels.md",
        ),
    ] {
        let error = error_of_text(&lines);
        assert_eq!(error.activity(), "unable_to_determine_target_os");
        assert_eq!(error.to_string(), expected);
    }
}

/// A guest writes such a text, or ran such a kernel before a warm reboot.
#[test]
fn the_text_of_an_unsupported_kernel_hides_no_other_kernel() {
    let mut guest = Guest::new(Kind::default());
    guest.text(
        0x10_0000,
        "OSRELEASE=6.1.0-50-686-pae\nSYMBOL(_stext)=d2c00000\nSIZE(list_head)=8\n",
    );
    assert_eq!(find(&mut guest, &DiscoveryOptions::default()).unwrap().release, RELEASE);
}

#[test]
fn a_kernel_of_which_only_the_banner_is_found_is_named() {
    let mut guest = Guest::empty();
    guest.text(0x10_0123, "Linux version 6.1.0-tiny (builder@host) (gcc 12.2.0) #1 SMP\n");
    let error = find(&mut guest, &DiscoveryOptions::default()).unwrap_err();
    assert_eq!(error.activity(), "unable_to_determine_target_os");
    let text = error.to_string();
    assert!(text.contains("a kernel's banner at 0x100123 (6.1.0-tiny)"), "{text}");
    assert!(text.contains("32-bit kernels"), "{text}");
}

#[test]
fn a_profile_file_serves_every_boot_of_its_kernel() {
    let mut guest = Guest::new(Kind::default());
    let profile = find(&mut guest, &DiscoveryOptions::default()).unwrap();
    let bytes = profile.to_file().to_bytes();
    let file = [ProfileFile::parse(&bytes).unwrap()];
    // Another boot: other levels, another address, and no types in memory.
    let mut guest = Guest::empty();
    guest.boot(Kind { five_levels: true, btf: false, ..Kind::default() }, 10 << 20);
    let options = DiscoveryOptions { files: &file, generate: false, ..DiscoveryOptions::default() };
    let again = find(&mut guest, &options).unwrap();
    assert_eq!(again.layouts, profile.layouts);
    assert_eq!(again.origin, LayoutOrigin::File { build_id: BUILD_ID.to_owned() });
    assert_eq!(again.symbols.init_task, profile.symbols.init_task);
    assert_eq!(again.to_file(), file[0]);
    let none = DiscoveryOptions { generate: false, ..DiscoveryOptions::default() };
    let error = find(&mut guest, &none).unwrap_err();
    assert_eq!(error.activity(), "no_matching_profile_found");
}

#[test]
fn the_memory_replaces_a_profile_file_that_does_not_fit() {
    let mut guest = Guest::new(Kind::default());
    let profile = find(&mut guest, &DiscoveryOptions::default()).unwrap();
    let text = String::from_utf8(profile.to_file().to_bytes()).unwrap();
    let wrong = text.replacen("\"comm\":[", "\"comm\":[1", 1);
    assert_ne!(wrong, text);
    let file = [ProfileFile::parse(wrong.as_bytes()).unwrap()];
    let options = DiscoveryOptions { files: &file, ..DiscoveryOptions::default() };
    let found = find(&mut guest, &options).unwrap();
    assert!(matches!(found.origin, LayoutOrigin::Btf { .. }));
    let options = DiscoveryOptions { generate: false, ..options };
    let error = find(&mut guest, &options).unwrap_err();
    assert_eq!(error.activity(), "profile_verification_failed");
}

#[test]
fn the_memory_replaces_an_outdated_profile_file() {
    let mut guest = Guest::new(Kind::default());
    let profile = find(&mut guest, &DiscoveryOptions::default()).unwrap();
    let text = String::from_utf8(profile.to_file().to_bytes()).unwrap();
    // An optional field without a stored answer, and one that the kernel lacks.
    for (old, origin_is_file) in [(text.replacen("\"lhash2_mask\"", "\"other\"", 1), false), {
        let at = text.find("\"lhash2_mask\":[").expect("the field is in the file");
        let end = at + text[at..].find(']').expect("the field has an end") + 1;
        (format!("{}\"lhash2_mask\":null{}", &text[..at], &text[end..]), true)
    }] {
        assert_ne!(old, text);
        let file = [ProfileFile::parse(old.as_bytes()).unwrap()];
        let options = DiscoveryOptions { files: &file, ..DiscoveryOptions::default() };
        let mut refused = Vec::new();
        let found = discover(&mut guest, &options, &mut |event: Event<'_>| {
            if let Event::CandidateRefused(attempt) = event {
                refused.push(attempt.to_string());
            }
        })
        .unwrap();
        assert_eq!(matches!(found.origin, LayoutOrigin::File { .. }), origin_is_file);
        assert_eq!(
            refused.iter().any(|line| line.contains("inet_hashinfo.lhash2_mask")),
            !origin_is_file
        );
        // Without generation, an outdated profile is better than none.
        let found = find(&mut guest, &DiscoveryOptions { generate: false, ..options }).unwrap();
        assert!(matches!(found.origin, LayoutOrigin::File { .. }));
        assert_eq!(found.layouts.inet_hashinfo.lhash2_mask, None);
    }
}

#[test]
fn invalid_profile_files_are_refused() {
    for text in [
        "",
        "[]",
        "{\"format\":2}",
        "{\"format\":1,\"build_id\":\"\",\"release\":\"\",\"symbols\":{},\"members\":{}}",
        "{\"format\":2,\"build_id\":\"\",\"release\":\"\",\"symbols\":{\"_end\":-1},\
         \"members\":{}}",
    ] {
        let error = ProfileFile::parse(text.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("profile: "), "{error}");
    }
    assert!(ProfileFile::parse(&vec![b' '; 5 << 20]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Damage to the kernel's data yields a profile or an error, never a panic or a hang.
    #[test]
    fn damage_never_panics(
        five_levels: bool,
        words in prop::collection::vec((0_usize..0x20_0000 / 8, any::<u64>()), 0..40),
        page in prop::option::of(0x200_usize..0x700),
        near in prop::collection::vec((0x21_0000_usize / 8..0x24_2000 / 8, 0_u64..8), 0..3),
    ) {
        let mut guest = Guest::new(Kind { five_levels, ..Kind::default() });
        for (at, value) in words {
            guest.word(0x20_0000 + at as u64 * 8, value);
        }
        for (at, bit) in near {
            // A flipped bit in the tables and tasks.
            guest.memory[at * 8 + bit as usize] ^= 1 << bit;
        }
        if let Some(page) = page {
            guest.memory[page * 4096..][..4096].fill(0);
        }
        for options in [DiscoveryOptions::default(), without_kallsyms(), without_vmcoreinfo()] {
            let _ = find(&mut guest, &options);
        }
    }
}
