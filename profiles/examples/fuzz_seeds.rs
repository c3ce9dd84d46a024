//! Cuts seeds for the fuzz targets from the memory of real kernels.
//!
//!     cargo run --release -p panoptes-profiles --example fuzz_seeds -- fuzz/corpus RAM…
//!
//! Complete tables have megabytes, but a fuzzer needs thousands of runs a second. So each seed is
//! the beginning of a table, fixed up to be complete.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::source::MemorySource;
use panoptes_profiles::memory::KernelMemory;
use panoptes_profiles::vmcoreinfo::{VMCOREINFO_BYTES_MAX, Vmcoreinfo};
use panoptes_profiles::{DiscoveryOptions, discover};

#[path = "../tests/common/raw_file.rs"]
mod raw_file;

use raw_file::RawFile;

/// Number of types and names in each seed.
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
    let profile = discover(&mut source, &DiscoveryOptions::default(), &mut ())?;
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

    // Kernels before v6.0 do not name the tables; the later ones have the same format.
    let at = |name: &str| info.symbol(name).map(KernelVa);
    let (Some(names), Some(index), Some(table)) =
        (at("kallsyms_names"), at("kallsyms_token_index"), at("kallsyms_token_table"))
    else {
        return Ok(());
    };
    let names = memory.read_vec(names, 64 << 10)?;
    let index = memory.read_vec(index, 512)?;
    let table = memory.read_vec(table, 2048)?;
    for count in NAMES {
        let mut seed = count.to_le_bytes().to_vec();
        seed.extend((table.len() as u16).to_le_bytes());
        seed.extend(&index);
        seed.extend(&table);
        seed.extend(&names[..names_end(&names, count)]);
        write("kallsyms", format!("{count}-names"), &seed)?;
    }
    write("kallsyms", "image".to_owned(), &kallsyms_image(&names, &table, &index))?;
    Ok(())
}

/// End of the first `count` names.
fn names_end(names: &[u8], count: u32) -> usize {
    (0..count).fold(0, |end, _| end + usize::from(names[end]) + 1)
}

/// The tables in the layout of an image, with the first names only, after a count of zero that
/// selects the image input of the target.
fn kallsyms_image(names: &[u8], table: &[u8], index: &[u8]) -> Vec<u8> {
    const COUNT: u32 = 300;
    let last = index.last_chunk().map_or(0, |bytes| usize::from(u16::from_le_bytes(*bytes)));
    let end = table[last..].iter().position(|&byte| byte == 0).map_or(last, |at| last + at + 1);
    let markers: Vec<u8> =
        [0, names_end(names, 256) as u32].iter().flat_map(|marker| marker.to_le_bytes()).collect();
    let names = &names[..names_end(names, COUNT)];
    let mut image = vec![0; 8];
    for part in [&COUNT.to_le_bytes()[..], names, &markers, &table[..end], index, &[0; 2048]] {
        image.extend(part);
        image.resize(image.len().next_multiple_of(8), 0);
    }
    let mut seed = vec![0; 4];
    seed.extend(image);
    seed
}

/// The first `count` types, with only their names.
fn cut_btf(btf: &[u8], count: usize) -> Option<Vec<u8>> {
    let word = |at: usize| btf.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
    let (header, strings) = (word(4)? as usize, word(16)? as usize);
    let (mut types, mut names) = (Vec::new(), vec![0]);
    let mut renamed = BTreeMap::new();
    let mut at = header + word(8)? as usize;
    for _ in 0..count {
        let info = word(at + 4)?;
        let (kind, members) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        // Words after the type, and words per member that begins with a name.
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
