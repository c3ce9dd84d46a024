//! A scan of every dump format equals that of the paused guest it was made from, byte for byte.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use panoptes_bounded as bounded;
use panoptes_rig::dump::{Packing, Ram};
use panoptes_rig::{Architecture, Flavor, Guest, GuestSpec, Kernel, dump, product, setup};

/// The output of a scan of a file, without messages on standard error.
fn scan(path: &Path) -> Vec<u8> {
    let started = Instant::now();
    let done = bounded::output_within(
        Command::new(product::program().unwrap()).arg("scan").arg(path),
        bounded::LONG,
    )
    .unwrap();
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {output}", path.display());
    println!("    scanned in {:.2} s", started.elapsed().as_secs_f64());
    done.stdout
}

fn check(live: &[u8], folder: &Path, name: &str, write: impl FnOnce(&Path)) -> PathBuf {
    let path = folder.join(name.replace(' ', "-"));
    let started = Instant::now();
    write(&path);
    let mib = path.metadata().unwrap().len() >> 20;
    println!("{name}: {mib} MiB written in {:.1} s", started.elapsed().as_secs_f64());
    let found = scan(&path);
    if found != live {
        let (found, live) = (String::from_utf8_lossy(&found), String::from_utf8_lossy(live));
        let differ = found.lines().zip(live.lines()).find(|(found, live)| found != live);
        panic!(
            "{name}: {} lines instead of {}; the first that differs: {differ:#?}",
            found.lines().count(),
            live.lines().count()
        );
    }
    path
}

#[test]
#[ignore = "boots a guest"]
fn every_format_scans_like_the_guest() {
    setup::ensure().unwrap();
    let kernel = Kernel::obtain(Flavor::V6_1).unwrap();
    let mut guest = Guest::boot(&GuestSpec::new(kernel)).unwrap();
    guest.agent("zoo").unwrap();
    guest.pause().unwrap();
    let file = guest.ram_path().to_owned();
    let live = scan(&file);
    let ram = Ram { file: &file, architecture: Architecture::Amd64 };
    assert!(live.split(|byte| *byte == b'\n').count() > 500, "the zoo is larger");
    let folder = tempfile::tempdir_in(file.parent().unwrap()).unwrap();
    let folder = folder.path();
    let done = |path: PathBuf| std::fs::remove_file(path).unwrap();

    for (name, sparse) in [("raw copy", "never"), ("sparse raw copy", "always")] {
        done(check(&live, folder, name, |path| {
            let sparse = format!("--sparse={sparse}");
            assert!(
                bounded::status_within(
                    Command::new("cp").arg(sparse).args([&file, path]),
                    bounded::LONG
                )
                .unwrap()
                .success()
            );
        }));
    }
    done(check(&live, folder, "LiME", |path| dump::lime(ram, path, 1).unwrap()));
    done(check(&live, folder, "AVML", |path| dump::lime(ram, path, 2).unwrap()));
    done(check(&live, folder, "ELF core without notes", |path| dump::elf(ram, path).unwrap()));
    done(check(&live, folder, "raw without gaps", |path| dump::joined(ram, path).unwrap()));
    // Debian builds its QEMU with zlib alone.
    for packing in [Packing::Lzo, Packing::Snappy, Packing::Zstd] {
        let name = format!("kdump with {packing:?}");
        done(check(&live, folder, &name, |path| dump::kdump(ram, path, packing).unwrap()));
    }
    for paging in [false, true] {
        let name = if paging { "ELF core by mappings" } else { "ELF core" };
        done(check(&live, folder, name, |path| {
            dump::by_qemu(&mut guest, path, None, paging).unwrap();
        }));
    }
    let flat = check(&live, folder, "kdump with zlib, flattened", |path| {
        dump::by_qemu(&mut guest, path, Some("kdump-zlib"), false).unwrap();
    });
    done(check(&live, folder, "kdump with zlib", |path| dump::unflatten(&flat, path).unwrap()));
    done(flat);
    // The last one: a guest that was migrated cannot continue.
    done(check(&live, folder, "migration stream", |path| {
        dump::stream(&mut guest, path).unwrap();
    }));
}
