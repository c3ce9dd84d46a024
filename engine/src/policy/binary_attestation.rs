//! Attestation: records of programs that run and were not shipped like this.

#[cfg(test)]
mod tests;

use core::fmt::{self, Display, Write};

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::text::Hex;
use panoptes_records::activities::Activity;
use panoptes_records::json::text::Text;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::elf_file::{ElfFileDetails, ElfFileType};
use panoptes_records::record::value::Hash;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::describe;
use super::evidence::AlertEvidence;
use super::subject_names::{self, path};
use super::techniques::{
    DELETED, ELSEWHERE, ELSEWHERE_FILELESS, FILELESS, FOREIGN, LIBRARY, MODIFIED, Techniques,
};
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::detect::binary_attestation::Alert;
use crate::detect::binary_attestation::arguments::arguments;
use crate::detect::binary_attestation::verdict::{Basis, FileFault, Role};
use crate::page_cache::{ContentFormat, ElfKind};
use crate::state::ScanContext;
use crate::state::facts::ProcessFacts;

/// Maximum length of the reason in bytes: two paths of usual length, a hash and the text between.
const ATTESTATION_REASON_BYTES: usize = 1024;
/// Maximum length of an entrypoint in the reason, in bytes.
const LINE_BYTES: usize = 512;

impl Reporter<'_> {
    /// Reports a program, library or script that was not shipped like this.
    pub(super) fn binary_attestation(
        &mut self,
        cx: &ScanContext<'_>,
        alert: &Alert<'_>,
    ) -> Acceptance {
        let key = alert.process.key();
        let activities = activities(alert);
        if !activities.iter().all(|&activity| self.admits(key, activity)) {
            return Acceptance::No;
        }
        let process = ProcessFacts {
            executable_hashes: alert.process_hashes.or(alert.process.executable_hashes),
            ..alert.process
        };
        let process = describe::process(&process, cx.snapshot.machine.tsc_khz);
        let parents = [Details::Process(&process)];
        let details = elf_file(alert);
        let mut accepted = Acceptance::Yes;
        let mut is_reported = false;
        for activity in activities {
            let mut reason = ArrayString::<ATTESTATION_REASON_BYTES>::new();
            // Text that does not fit is cut off: the sentence begins with the most important part.
            let _ = write_reason(&mut reason, activity, alert);
            let evidence = AlertEvidence {
                reason: &reason,
                techniques: techniques(alert),
                confidence: confidence(alert),
                since_ns: alert.since_ns,
                scans: 1,
                cause: self.cause().of_attestation(alert),
            };
            let record = Record::new(activity, Details::ElfFile(&details)).with_parents(&parents);
            let subject = EventSubject::process(&alert.process);
            let one = self.alert(cx, subject, &record, evidence);
            is_reported |= one == Acceptance::Yes;
            accepted = accepted.and(one);
        }
        // What was reported in part is not reported again.
        if is_reported { Acceptance::Yes } else { accepted }
    }
}

/// The activities to report, in this order. A size that differs and content that differs are
/// separate activities.
fn activities(alert: &Alert<'_>) -> ArrayVec<Activity, 2> {
    let is_library = alert.role == Role::Library;
    let (foreign, other_size) = if is_library {
        (Activity::ForeignLibraryLoaded, Activity::ForeignLibraryLoadedFileSizeMismatch)
    } else {
        (Activity::ForeignBinaryExecuted, Activity::ForeignBinaryExecutedFileSizeMismatch)
    };
    let mut all = ArrayVec::new();
    match alert.finding.wrong {
        FileFault::Foreign { other_size: Some(_), .. } => all.extend([other_size, foreign]),
        FileFault::Foreign { other_size: None, .. } => all.push(foreign),
        FileFault::Elsewhere { .. } | FileFault::Arguments { .. } => {
            all.push(Activity::BinaryExecutedNotAsIntended);
        }
    }
    all
}

fn techniques(alert: &Alert<'_>) -> Techniques {
    let is_memfd = alert.file.is_memfd;
    match alert.finding.wrong {
        FileFault::Foreign { .. } if alert.role == Role::Library => LIBRARY,
        FileFault::Foreign { .. } if is_memfd => FILELESS,
        FileFault::Foreign { instead: Some(_), .. } => MODIFIED,
        FileFault::Foreign { instead: None, .. } if alert.file.is_deleted => DELETED,
        FileFault::Foreign { instead: None, .. } => FOREIGN,
        FileFault::Elsewhere { .. } if is_memfd => ELSEWHERE_FILELESS,
        FileFault::Elsewhere { .. } | FileFault::Arguments { .. } => ELSEWHERE,
    }
}

fn confidence(alert: &Alert<'_>) -> Confidence {
    match alert.finding.basis {
        Basis::Content | Basis::Size => Confidence::High,
        Basis::Parts { partial, others } => {
            let differs = partial.best_match.is_some_and(|best_match| best_match.differing > 0);
            if differs && !others { Confidence::High } else { Confidence::Medium }
        }
        Basis::CommandLine => Confidence::Medium,
    }
}

fn elf_file<'a>(alert: &Alert<'a>) -> ElfFileDetails<'a> {
    let file = &alert.file;
    let kind = match file.format {
        ContentFormat::Elf(ElfKind::Executable) => Some(ElfFileType::Executable),
        ContentFormat::Elf(ElfKind::SharedObject) => Some(ElfFileType::SharedObject),
        ContentFormat::Elf(ElfKind::Relocatable) => Some(ElfFileType::Relocatable),
        ContentFormat::Elf(ElfKind::Core) => Some(ElfFileType::Core),
        ContentFormat::Elf(ElfKind::Other(_)) | ContentFormat::Other | ContentFormat::Unknown => {
            None
        }
    };
    ElfFileDetails {
        elf_file_inode_number: Some(file.number),
        elf_file_name: file.path.map(|path| Text::new(describe::last_component(path))),
        elf_file_type: kind,
        elf_file_path: file.path.map(Text::new),
        elf_file_hash_sha256: file.hashes.map(|hashes| Hash(hashes.sha256)),
        elf_file_hash_sha1: file.hashes.map(|hashes| Hash(hashes.sha1)),
        elf_file_hash_md5: file.hashes.map(|hashes| Hash(hashes.md5)),
        elf_file_size_bytes: Some(file.size),
        is_main_process_executable: Some(file.is_main_executable),
    }
}

fn write_reason(out: &mut impl Write, activity: Activity, alert: &Alert<'_>) -> fmt::Result {
    let is_about_size = matches!(
        activity,
        Activity::ForeignBinaryExecutedFileSizeMismatch
            | Activity::ForeignLibraryLoadedFileSizeMismatch
    );
    let (file, size) = (path(alert.file.path), alert.file.size);
    let (origin, hash) = (origin(alert), hash(alert));
    match (alert.finding.wrong, alert.finding.basis) {
        (FileFault::Foreign { other_size: Some(other), .. }, _) if is_about_size => {
            write!(out, "{file} has {size} bytes, what {origin} has there has {other}")?;
        }
        (FileFault::Foreign { instead, .. }, basis) => {
            match basis {
                Basis::Content => write!(out, "the content of {file} ({hash})")?,
                Basis::Parts { partial, .. } => {
                    write!(out, "partial match: {} of {} pages", partial.resident, partial.pages)?;
                    match partial.best_match {
                        Some(best_match) if best_match.differing > 0 => write!(
                            out,
                            ", {} of {} differ from the best match: the content of {file}",
                            best_match.differing, best_match.compared
                        )?,
                        _ => write!(out, ": the content of {file}")?,
                    }
                }
                Basis::Size | Basis::CommandLine => {
                    write!(out, "the content of {file}, by its size of {size} bytes,")?;
                }
            }
            match instead {
                Some(_) => write!(out, " is not what {origin} has there")?,
                None => write!(out, " is nothing that {origin} has")?,
            }
            if matches!(basis, Basis::Parts { others: true, .. }) {
                out.write_str(", unless it was approved by a hash alone")?;
            }
        }
        (FileFault::Elsewhere { shipped }, basis) => {
            let home = path(alert.shipped.file(shipped).and_then(|file| file.path()));
            match basis {
                Basis::Parts { partial, .. } => write!(
                    out,
                    "partial match: {} of {} pages, 0 differ: {origin} has what {file} holds as \
                     {home}",
                    partial.resident, partial.pages
                )?,
                _ => write!(out, "{origin} has the content of {file} ({hash}) as {home}")?,
            }
        }
        (FileFault::Arguments { entrypoint }, _) => {
            let what = if entrypoint { "the entrypoint of" } else { "what it is meant for by" };
            write!(out, "the arguments of {file} are not {what} {origin}")?;
            let mut entrypoints = alert.shipped.entrypoints(alert.applied);
            if let Some(line) = entrypoints.next().filter(|_| entrypoint) {
                // All of it or nothing: the end of a secret in it is what a pattern may need.
                let mut quoted = ArrayString::<LINE_BYTES>::new();
                if write!(quoted, ": {}", self::line(line)).is_ok() {
                    out.write_str(&quoted)?;
                }
            }
        }
    }
    write_end(out, alert)
}

/// Writes the process of a file without a path, and what became of the file.
fn write_end(out: &mut impl Write, alert: &Alert<'_>) -> fmt::Result {
    if alert.file.path.is_none() {
        let process = &alert.process;
        write!(out, "; in {}", subject_names::process(process.name, process.process_id))?;
    }
    if alert.file.is_memfd {
        out.write_str("; it was run without a file (memfd)")?;
    } else if alert.file.is_deleted {
        out.write_str("; its file was deleted or replaced")?;
    }
    Ok(())
}

/// Arguments in a reason.
fn line(line: &[u8]) -> impl Display {
    fmt::from_fn(move |f| {
        for (at, argument) in arguments(line).enumerate() {
            f.write_str(if at > 0 { " " } else { "" })?;
            // As it is, so that patterns of secrets match it.
            for chunk in argument.utf8_chunks() {
                let mark = if chunk.invalid().is_empty() { "" } else { "\u{fffd}" };
                write!(f, "{}{mark}", chunk.valid())?;
            }
        }
        Ok(())
    })
}

/// The strongest hash in a reason.
fn hash(alert: &Alert<'_>) -> impl Display {
    fmt::from_fn(|f| match alert.file.hashes {
        Some(hashes) => write!(f, "SHA-256 {}", Hex(&hashes.sha256)),
        None => f.write_str("no hash"),
    })
}

/// The origin of the files that should run.
fn origin(alert: &Alert<'_>) -> impl Display {
    fmt::from_fn(|f| match alert.shipped.image_of(alert.applied) {
        Some((Some(name), _)) => write!(f, "the image {name}"),
        Some((None, Some(digest))) => write!(f, "the image {digest}"),
        Some((None, None)) => f.write_str("the container's image"),
        None => f.write_str("the system's SBOM"),
    })
}
