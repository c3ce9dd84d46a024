//! Debian packages: the files that one installs (deb(5), deb-control(5)).
//!
//! The package's own MD5s of its files, in `md5sums`, are compared with them.

use std::io::{BufReader, Read};

use panoptes_unpack::AR;

use super::layer;
use super::room::Room;
use super::tree::ImageTree;
use super::{BuildOptions, BuildProgress, BuildResult, ProgressReader, dpkg};
use crate::error::{SbomError, shown};
use crate::model::{Sbom, SbomFile, SbomSubject};

/// Maximum number of its members; a package has three.
const MEMBERS_MAX: u32 = 64;
/// Maximum size of the files read from a package's control archive.
const CONTROL_BYTES_MAX: u64 = 64 << 20;
/// Maximum number of unpacked bytes of that archive.
const CONTROL_UNPACKED_BYTES_MAX: u64 = 1 << 30;
/// Maximum number of files in that archive.
const CONTROL_FILES_MAX: usize = 10_000;
/// Maximum number of problems reported for one package.
const PACKAGE_PROBLEMS_MAX: usize = 20;

/// The control data of a package.
#[derive(Default)]
struct DebControl {
    fields: String,
    sums: Vec<u8>,
}

/// `package` must be at its beginning.
pub(super) fn build(
    package: impl Read,
    options: &BuildOptions,
    progress: &dyn BuildProgress,
) -> Result<BuildResult, SbomError> {
    const BAD: &str = "is no ar archive as deb(5) has it";
    let cut = |error: std::io::Error| SbomError::content(format!("can't be read: {error}"));
    let mut package = BufReader::new(package);
    let mut magic = [0; AR.len()];
    package.read_exact(&mut magic).map_err(cut)?;
    if magic != AR {
        return Err(SbomError::content(BAD));
    }
    let (mut control, mut files) = (None, None);
    for _ in 0..MEMBERS_MAX {
        let mut header = [0; 60];
        if package.read_exact(&mut header).is_err() {
            break;
        }
        // Name, times, owner, mode, size in decimal, and an end of two bytes.
        let text = str::from_utf8(&header).map_err(|_| SbomError::content(BAD))?;
        let name = text.get(..16).unwrap_or_default().trim_end().trim_end_matches('/');
        let size = text.get(48..58).and_then(|size| size.trim_end().parse::<u64>().ok());
        let size = size.ok_or_else(|| SbomError::content(BAD))?;
        let mut member = (&mut package).take(size);
        if name.starts_with("control.tar") {
            control = Some(read_control(&mut member).map_err(|error| error.within(name))?);
        } else if name.starts_with("data.tar") {
            progress.expect(size);
            let read = read_data(&mut member, options, progress);
            files = Some(read.map_err(|error| error.within(name))?);
        }
        std::io::copy(&mut member, &mut std::io::sink()).map_err(cut)?;
        if member.limit() > 0 {
            return Err(SbomError::content("ends within one of its members"));
        }
        if size % 2 == 1 && package.read_exact(&mut [0]).is_err() {
            break;
        }
    }
    let (Some(control), Some((mut files, special))) = (control, files) else {
        return Err(SbomError::content(
            "has not both control.tar and data.tar, so is no Debian package",
        ));
    };
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let problems = compare(&control.sums, &files)?;
    let bytes = files.iter().filter_map(|file| file.size).sum();
    let field = |name: &str| field(&control.fields, name);
    let subject = SbomSubject::Package {
        name: field("Package"),
        version: field("Version"),
        architecture: field("Architecture"),
    };
    let sbom = Sbom { subject, files };
    Ok(BuildResult {
        sbom,
        source: "a Debian package",
        problems,
        remarks: Vec::new(),
        bytes,
        special,
    })
}

fn read_data(
    member: &mut dyn Read,
    options: &BuildOptions,
    progress: &dyn BuildProgress,
) -> Result<(Vec<SbomFile>, u64), SbomError> {
    let plain = panoptes_unpack::all(ProgressReader { input: member, progress })
        .map_err(SbomError::unpacking)?;
    let room = Room::new();
    let entries = layer::read(&mut room.reader(plain), options.page_hashes, &room)?;
    let mut tree = ImageTree::new();
    tree.unpack(entries)?;
    tree.files()
}

/// Reads the two files of the control archive that describe the others.
fn read_control(member: &mut dyn Read) -> Result<DebControl, SbomError> {
    let mut control = DebControl::default();
    let room = Room::for_unpacked(CONTROL_UNPACKED_BYTES_MAX);
    let plain = panoptes_unpack::all(member).map_err(SbomError::unpacking)?;
    let mut archive = tar::Archive::new(room.reader(plain));
    // Raw: neither of the two has a long name.
    let entries = archive.entries().map_err(SbomError::unpacking)?.raw(true);
    for entry in entries.take(CONTROL_FILES_MAX) {
        let entry = entry.map_err(SbomError::unpacking)?;
        let path = entry.path_bytes().into_owned();
        let name = path.strip_prefix(b"./").unwrap_or(&path);
        if !entry.header().entry_type().is_file() || !matches!(name, b"control" | b"md5sums") {
            continue;
        }
        let (is_sums, size) = (name == b"md5sums", entry.size());
        let mut bytes = Vec::new();
        entry.take(CONTROL_BYTES_MAX).read_to_end(&mut bytes).map_err(SbomError::unpacking)?;
        if bytes.len() as u64 != size {
            return Err(SbomError::content(format!("{} is too large, or cut off", shown(&path))));
        }
        if is_sums {
            control.sums = bytes;
        } else {
            control.fields = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    Ok(control)
}

/// A field of one line.
fn field(fields: &str, name: &str) -> Option<String> {
    let mut lines = fields.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim();
    (!value.is_empty()).then(|| shown(value.as_bytes()))
}

/// The differences between `md5sums` and the files.
fn compare(sums: &[u8], files: &[SbomFile]) -> Result<Vec<String>, SbomError> {
    let mut problems = Vec::new();
    let lines = sums.split(|byte| *byte == b'\n');
    for (index, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let Some((md5, path)) = dpkg::md5_line(line) else {
            let message = format!("md5sums:{}:1: is no line of MD5 and path", index + 1);
            return Err(SbomError::content(message));
        };
        let found = files.binary_search_by(|file| file.path.as_deref().cmp(&Some(&path[..])));
        let why = match found {
            Err(_) => "is missing in the package, whose md5sums name it",
            Ok(index) if files[index].md5 != Some(md5) => {
                "has another MD5 than the package's md5sums"
            }
            Ok(_) => continue,
        };
        if problems.len() == PACKAGE_PROBLEMS_MAX {
            problems.push("… and more".to_owned());
            break;
        }
        problems.push(format!("{} {why}", shown(&path)));
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use tar::EntryType;

    use super::super::layer::tests::archive;
    use super::*;

    fn deb(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = AR.to_vec();
        for (name, content) in members {
            let header =
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 0, content.len());
            bytes.extend(header.bytes());
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        }
        bytes
    }

    fn package(sums: &str) -> Vec<u8> {
        let control = archive(&[
            (
                "./control",
                EntryType::Regular,
                "",
                b"Package: app\nVersion: 1.2-3\nArchitecture: all\n",
            ),
            ("./md5sums", EntryType::Regular, "", sums.as_bytes()),
        ]);
        let data = archive(&[
            ("./usr/bin/", EntryType::Directory, "", b""),
            ("./usr/bin/app", EntryType::Regular, "", b"text"),
            ("./usr/bin/.wh.app", EntryType::Regular, "", b"no whiteout here"),
            ("./usr/bin/link", EntryType::Symlink, "app", b""),
        ]);
        let zstd =
            ruzstd::encoding::compress_to_vec(&*data, ruzstd::encoding::CompressionLevel::Fastest);
        deb(&[
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar", control),
            ("data.tar.zst", zstd),
        ])
    }

    fn built(bytes: &[u8]) -> Result<BuildResult, SbomError> {
        build(bytes, &BuildOptions::default(), &())
    }

    #[test]
    fn the_files_of_a_package_are_read_and_compared() {
        // printf text | md5sum
        let good = built(&package("1cb251ec0d568de6a929b520c4aed8d1  usr/bin/app\n")).unwrap();
        assert_eq!((good.sbom.files.len(), good.problems.len()), (2, 0));
        assert_eq!(good.sbom.files[1].path.as_deref(), Some(&b"/usr/bin/app"[..]));
        let expected = SbomSubject::Package {
            name: Some("app".to_owned()),
            version: Some("1.2-3".to_owned()),
            architecture: Some("all".to_owned()),
        };
        assert_eq!(good.sbom.subject, expected);
        let sums = "00000000000000000000000000000000  usr/bin/app\n\
                    00000000000000000000000000000000  usr/bin/gone\n";
        let bad = built(&package(sums)).unwrap();
        assert!(bad.problems[0].contains("/usr/bin/app has another MD5"));
        assert!(bad.problems[1].contains("/usr/bin/gone is missing in the package"));
    }

    #[test]
    fn cut_short_it_is_an_error() {
        let whole = package("");
        let expected = built(&whole).unwrap().sbom;
        for length in 0..whole.len() {
            if let Ok(cut) = built(&whole[..length]) {
                assert_eq!(cut.sbom, expected, "{length}");
            }
        }
        assert!(built(&deb(&[("data.tar", archive(&[]))])).is_err());
    }
}
