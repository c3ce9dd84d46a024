//! Discovery on the memory of real kernels: every `*.raw` in the folder that `PANOPTES_IMAGES` names.

mod common;

use std::path::{Path, PathBuf};

use common::raw_file::RawFile;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::Members;
use panoptes_profiles::btf::Btf;
use panoptes_profiles::{Options, Profile, ProfileFile, discover};

fn images() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("PANOPTES_IMAGES") else {
        eprintln!("skipped: PANOPTES_IMAGES names no folder of memory files");
        return Vec::new();
    };
    let entries = std::fs::read_dir(&folder).expect("PANOPTES_IMAGES can be listed");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let images: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "raw")).collect();
    assert!(!images.is_empty(), "no *.raw in {}", folder.display());
    images
}

fn find(image: &Path, options: &Options<'_>) -> Profile {
    let mut source = RawFile::open(image).expect("the image can be opened");
    match discover(&mut source, options, &mut ()) {
        Ok(profile) => profile,
        Err(error) => panic!("{}: {error}", image.display()),
    }
}

#[test]
fn every_road_gives_the_same_kernel() {
    for image in images() {
        let first = find(&image, &Options::default());
        assert!(first.timekeeper.is_some() && first.symbols.sysctl_bootid.is_some());
        assert_ne!(first.space.vmemmap_base, 0);
        let file = [ProfileFile::parse(&first.to_file().unwrap().to_bytes()).unwrap()];
        for options in [
            Options { use_kallsyms: false, ..Options::default() },
            Options { use_vmcoreinfo: false, ..Options::default() },
            Options { files: &file, generate: false, ..Options::default() },
        ] {
            let other = find(&image, &options);
            assert_eq!(other.release, first.release);
            assert_eq!(other.layouts, first.layouts);
            assert_eq!(other.space.levels, first.space.levels);
            assert_eq!(other.space.root, first.space.root);
            assert_eq!(other.space.direct_map, first.space.direct_map);
            assert_eq!(other.space.vmemmap_base, first.space.vmemmap_base);
            assert_eq!(other.space.image.start, first.space.image.start);
            assert!(other.space.image.end >= first.space.image.end);
            assert_eq!(other.space.image_physical, first.space.image_physical);
            assert_eq!(other.kernel_offset, first.kernel_offset);
            for (mine, theirs) in [
                (other.symbols.init_task, first.symbols.init_task),
                (other.symbols.init_pid_ns, first.symbols.init_pid_ns),
                (other.symbols.init_net, first.symbols.init_net),
                (other.symbols.init_uts_ns, first.symbols.init_uts_ns),
                (other.symbols.tcp_hashinfo, first.symbols.tcp_hashinfo),
            ] {
                assert_eq!(mine, theirs);
            }
        }
    }
}

#[test]
fn this_machines_own_types_bind() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        eprintln!("skipped: this machine's kernel shows no BTF");
        return;
    };
    let btf = Btf::parse(&bytes).expect("it parses");
    assert!(btf.type_count() > 10_000);
    assert_eq!(btf.enumerator("pid_type", "PIDTYPE_TGID"), Some(1));
    let layouts = Layouts::bind(&btf).expect("every layout binds");
    assert_eq!(layouts.task_struct.comm.size, 16);
    assert_eq!(btf.size_of("list_head"), Some(16));
    assert_eq!(btf.member("task_struct", "tasks.next").map(|next| next.size), Some(8));
}
