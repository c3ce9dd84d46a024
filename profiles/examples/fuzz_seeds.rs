//! Cuts seeds for the fuzz targets out of the memory of real kernels.
//!
//!     cargo run --release -p panoptes-profiles --example fuzz_seeds -- fuzz/corpus RAM…
//!
//! Whole tables have megabytes, and a fuzzer needs thousands of runs a second: each seed is the beginning
//! of a table, made whole again.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::source::MemorySource;
use panoptes_profiles::memory::KernelMemory;
use panoptes_profiles::vmcoreinfo::{VMCOREINFO_BYTES_MAX, Vmcoreinfo};
use panoptes_profiles::{Options, discover};

#[path = "../tests/common/raw_file.rs"]
mod raw_file;

use raw_file::RawFile;

/// How many types and names a seed has.
const TYPES: [usize; 3] = [20, 100, 300];
const NAMES: [u32; 3] = [20, 100, 300];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(corpus) = arguments.next() else {
        eprintln!("usage: fuzz_seeds CORPUS RAM…");
        return ExitCode::from(2);
    };
    for image in arguments {
        if let Err(error) = cut(Path::new(&corpus), Path::new(&image)) {
            eprintln!("{}: {error}", Path::new(&image).display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn cut(corpus: &Path, image: &Path) -> Result<(), Box<dyn Error>> {
    let mut source = RawFile::open(image)?;
    let profile = discover(&mut source, &Options::default(), &mut ())?;
    let write = |target: &str, name: String, bytes: &[u8]| -> std::io::Result<()> {
        let folder = corpus.join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{}-{name}", profile.release)), bytes)
    };

    let mut text = vec![0; VMCOREINFO_BYTES_MAX.min(4096)];
    let _ = source.read_exact(profile.found_at, &mut text);
    let info = Vmcoreinfo::parse(&text)?;
    write("vmcoreinfo", "whole".to_owned(), info.text().as_bytes())?;

    let mut memory = KernelMemory::new(&mut source, profile.space.root, profile.space.levels);
    let start = profile.symbols.start_btf.ok_or("no __start_BTF")?;
    let stop = profile.symbols.stop_btf.ok_or("no __stop_BTF")?;
    let btf = memory.read_vec(start, (stop.0 - start.0) as usize)?;
    for count in TYPES {
        let mut seed = vec![0];
        seed.extend(cut_btf(&btf, count).ok_or("BTF without types")?);
        write("btf", format!("{count}-types"), &seed)?;
    }

    let at = |name: &str| info.symbol(name).map(KernelVa).ok_or("no kallsyms in VMCOREINFO");
    let names = memory.read_vec(at("kallsyms_names")?, 64 << 10)?;
    let index = memory.read_vec(at("kallsyms_token_index")?, 512)?;
    let table = memory.read_vec(at("kallsyms_token_table")?, 2048)?;
    for count in NAMES {
        let mut seed = count.to_le_bytes().to_vec();
        seed.extend((table.len() as u16).to_le_bytes());
        seed.extend(&index);
        seed.extend(&table);
        let mut end = 0;
        for _ in 0..count {
            end += usize::from(names[end]) + 1;
        }
        seed.extend(&names[..end]);
        write("kallsyms", format!("{count}-names"), &seed)?;
    }
    Ok(())
}

/// The first `count` types, with only the names that they use.
fn cut_btf(btf: &[u8], count: usize) -> Option<Vec<u8>> {
    let word = |at: usize| btf.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
    let (header, strings) = (word(4)? as usize, word(16)? as usize);
    let (mut types, mut names) = (Vec::new(), vec![0]);
    let mut renamed = BTreeMap::new();
    let mut at = header + word(8)? as usize;
    for _ in 0..count {
        let info = word(at + 4)?;
        let (kind, members) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        // Words after the type, and how many of them make one member that begins with its name.
        let (words, step) = match kind {
            1 | 14 | 17 => (1, 0),
            3 => (3, 0),
            4 | 5 | 19 => (members * 3, 3),
            6 | 13 => (members * 2, 2),
            15 => (members * 3, 0),
            _ => (0, 0),
        };
        for index in 0..3 + words {
            let value = word(at + index * 4)?;
            let is_name = index == 0 || (index >= 3 && step > 0 && (index - 3) % step == 0);
            let value = if is_name && value != 0 {
                *renamed.entry(value).or_insert_with(|| {
                    let text = btf.get(header + strings + value as usize..).unwrap_or(&[]);
                    let length = text.iter().position(|&byte| byte == 0).unwrap_or(0);
                    let offset = names.len() as u32;
                    names.extend(&text[..length]);
                    names.push(0);
                    offset
                })
            } else {
                value
            };
            types.extend(value.to_le_bytes());
        }
        at += (3 + words) * 4;
    }
    let mut cut = btf.get(..4)?.to_vec();
    let bytes = types.len() as u32;
    for word in [24, 0, bytes, bytes, names.len() as u32] {
        cut.extend(word.to_le_bytes());
    }
    cut.extend(types);
    cut.extend(names);
    Some(cut)
}
