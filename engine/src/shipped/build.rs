//! Builds the index: files are added one by one, within limits, and sorted at the end.

use std::collections::HashMap;

use panoptes_decoders::maybe::{MaybeU32, MaybeU64};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    CompactRange, KeptFile, KeptSubject, ShippedFile, ShippedFiles, ShippedImage, ShippedSubject,
    SubjectId, merged,
};
use crate::container_config::Glob;
use crate::page_cache::{PAGE_BYTES, PageDigest};

const SUBJECTS_MAX: usize = 4096;
/// Maximum number of files: forty times those of a large distribution.
const FILES_MAX: usize = 4 << 20;
const TEXT_BYTES_MAX: usize = 1 << 30;
/// Maximum number of page hashes: those of 128 GiB of content, in 512 MiB of memory.
const SHIPPED_PAGES_MAX: usize = 32 << 20;
/// There are at most as many contents with page hashes as files.
const _: () = assert!(FILES_MAX < super::AMBIGUOUS as usize);

/// A limit of the index that the SBOMs exceed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("more than {most} {what} in all SBOMs together")]
pub struct TooMuch {
    /// The limited items: `files`, `images`, …
    pub what: &'static str,
    /// Maximum number of them.
    pub most: usize,
}

fn room(used: usize, more: usize, most: usize, what: &'static str) -> Result<(), TooMuch> {
    used.checked_add(more).filter(|&all| all <= most).map(|_| ()).ok_or(TooMuch { what, most })
}

/// Collects files and builds the index of them.
#[derive(Debug, Default)]
pub struct ShippedBuilder {
    shipped: ShippedFiles,
    run_of: HashMap<u128, u32>,
}

impl ShippedBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the subject that files are added to. Everything approved everywhere is one subject,
    /// everything outside of containers another. Each image, by name and digest, is one more.
    pub fn subject(&mut self, subject: &ShippedSubject<'_>) -> Result<SubjectId, TooMuch> {
        let known = self.shipped.subjects.iter().position(|kept| match (kept, subject) {
            (KeptSubject::Everywhere, ShippedSubject::Everywhere)
            | (KeptSubject::System, ShippedSubject::System) => true,
            (KeptSubject::Image(kept), ShippedSubject::Image { name, digest, .. }) => {
                (kept.name.as_deref(), kept.digest.as_deref()) == (*name, *digest)
                    && (name.is_some() || digest.is_some())
            }
            _ => false,
        });
        let index = known.unwrap_or(self.shipped.subjects.len());
        if known.is_none() {
            room(index, 1, SUBJECTS_MAX, "images")?;
            self.shipped.subjects.push(match *subject {
                ShippedSubject::Everywhere => KeptSubject::Everywhere,
                ShippedSubject::System => KeptSubject::System,
                ShippedSubject::Image { name, digest, .. } => KeptSubject::Image(ShippedImage {
                    name: name.map(str::to_owned),
                    digest: digest.map(str::to_owned),
                    ..ShippedImage::default()
                }),
            });
        }
        if let (
            Some(KeptSubject::Image(kept)),
            ShippedSubject::Image { containers, entrypoint, .. },
        ) = (self.shipped.subjects.get_mut(index), subject)
        {
            kept.containers.extend(containers.iter().map(|pattern| Glob::new(pattern)));
            let line = joined(entrypoint);
            if !line.is_empty() && !kept.entrypoints.contains(&line) {
                kept.entrypoints.push(line);
            }
        }
        Ok(SubjectId(index as u16))
    }

    /// Adds a file. Page hashes are ignored unless they cover all of its pages.
    pub fn add(&mut self, subject: SubjectId, file: &ShippedFile<'_>) -> Result<(), TooMuch> {
        room(self.shipped.files.len(), 1, FILES_MAX, "files")?;
        let path = match file.path {
            Some(path) => self.keep_path(path)?,
            None => CompactRange::default(),
        };
        let arguments = self.keep_arguments(file.arguments)?;
        let all = |size: u64| size.div_ceil(PAGE_BYTES) == file.pages.len() as u64;
        let run = match file.size {
            Some(size) if !file.pages.is_empty() && all(size) => {
                MaybeU32::new(Some(self.keep_pages(file.pages)?))
            }
            _ => MaybeU32::NONE,
        };
        let number = self.shipped.files.len() as u32;
        let hashes = (file.sha256, file.sha1, file.md5);
        // The strongest known hash. Weaker ones add nothing.
        match hashes {
            (Some(hash), ..) => self.shipped.by_sha256.push((hash, number)),
            (_, Some(hash), _) => self.shipped.by_sha1.push((hash, number)),
            (.., Some(hash)) => self.shipped.by_md5.push((hash, number)),
            (None, None, None) => {}
        }
        let has_hash = hashes != (None, None, None);
        let size = MaybeU64::new(file.size);
        self.shipped.files.push(KeptFile { subject, path, size, has_hash, run, arguments });
        Ok(())
    }

    fn keep_text(&mut self, parts: &[&[u8]]) -> Result<CompactRange, TooMuch> {
        let count = parts.iter().map(|part| part.len()).sum();
        room(self.shipped.texts.len(), count, TEXT_BYTES_MAX, "bytes of paths and arguments")?;
        let start = self.shipped.texts.len() as u32;
        for part in parts {
            self.shipped.texts.extend_from_slice(part);
        }
        Ok(CompactRange { start, count: count as u32 })
    }

    fn keep_path(&mut self, path: &[u8]) -> Result<CompactRange, TooMuch> {
        let slash: &[u8] = if path.starts_with(b"/") { b"" } else { b"/" };
        self.keep_text(&[slash, path])
    }

    fn keep_arguments(&mut self, lists: &[Vec<Vec<u8>>]) -> Result<CompactRange, TooMuch> {
        room(self.shipped.arguments.len(), lists.len(), FILES_MAX, "lists of arguments")?;
        let start = self.shipped.arguments.len() as u32;
        for list in lists {
            let span = self.keep_text(&[&joined(list)])?;
            self.shipped.arguments.push(span);
        }
        Ok(CompactRange { start, count: lists.len() as u32 })
    }

    fn keep_pages(&mut self, pages: &[PageDigest]) -> Result<u32, TooMuch> {
        let key = xxh3_128(pages.as_flattened());
        if let Some(&number) = self.run_of.get(&key) {
            let kept = self
                .shipped
                .runs
                .get(number as usize)
                .and_then(|run| self.shipped.pages.get(run.range()));
            if kept == Some(pages) {
                return Ok(number);
            }
        }
        room(self.shipped.pages.len(), pages.len(), SHIPPED_PAGES_MAX, "pages")?;
        let number = self.shipped.runs.len() as u32;
        self.shipped.runs.push(CompactRange {
            start: self.shipped.pages.len() as u32,
            count: pages.len() as u32,
        });
        self.shipped.pages.extend_from_slice(pages);
        self.run_of.insert(key, number);
        Ok(number)
    }

    /// Sorts everything.
    pub fn build(self) -> ShippedFiles {
        let mut shipped = self.shipped;
        shipped.by_sha256.sort_unstable();
        shipped.by_sha1.sort_unstable();
        shipped.by_md5.sort_unstable();
        let ShippedFiles { files, texts, .. } = &shipped;
        let numbers = || (0..).zip(files);
        let mut by_path: Vec<u32> =
            numbers().filter(|(_, file)| file.path.count > 0).map(|(number, _)| number).collect();
        by_path.sort_unstable_by_key(|&number| {
            let file = &files[number as usize];
            (file.subject, merged(&texts[file.path.range()]), number)
        });
        let mut by_size: Vec<u32> = numbers()
            .filter(|(_, file)| file.size != MaybeU64::NONE)
            .map(|(number, _)| number)
            .collect();
        by_size.sort_unstable_by_key(|&number| {
            let file = &files[number as usize];
            (file.size, file.run, number)
        });
        let mut has_unsized = vec![false; shipped.subjects.len()];
        for file in files.iter().filter(|file| file.size == MaybeU64::NONE) {
            if let Some(has) = has_unsized.get_mut(usize::from(file.subject.0)) {
                *has = true;
            }
        }
        (shipped.by_path, shipped.by_size, shipped.has_unsized) = (by_path, by_size, has_unsized);
        // It is kept as long as Panoptes runs.
        shipped.files.shrink_to_fit();
        shipped.texts.shrink_to_fit();
        shipped.pages.shrink_to_fit();
        shipped.by_sha256.shrink_to_fit();
        shipped
    }
}

/// Joins arguments in the kernel's format: each is terminated by NUL.
fn joined(list: &[Vec<u8>]) -> Vec<u8> {
    let mut line = Vec::with_capacity(list.iter().map(|argument| argument.len() + 1).sum());
    for argument in list {
        line.extend_from_slice(argument);
        line.push(0);
    }
    line
}
