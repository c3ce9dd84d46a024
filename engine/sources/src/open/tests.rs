//! Opening files of each format, as a user does.

use panoptes_bounded as bounded;
use std::io::Write as _;

use super::super::mapping::testing::memfd;
use panoptes_decoders::address::PhysicalAddress;

use super::super::{ErrorClass, MemorySource as _, Recorder};
use super::*;

/// A file that no process has open for writing; otherwise it would count as a guest's memory.
fn file_of(bytes: &[u8]) -> tempfile::TempPath {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.into_temp_path()
}

/// Whole pages that begin with the header of a dump.
fn forged(magic: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.resize(32, 0);
    bytes[17] = 0x2f; // LiME: the last address is 0x2fdf, the range ends where the file ends
    bytes[16] = 0xdf;
    bytes.resize(3 * 4096, 5);
    bytes
}

#[test]
fn a_header_in_the_memory_of_a_live_guest_is_not_trusted() {
    let lime = forged(b"EMiL\x01\0\0\0");
    // As QEMU has memory: a named file that is open for writing, then a file without a name.
    for folder in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
        for head in [lime.clone(), forged(b"PK\x03\x04"), forged(b"\x7fELF"), vec![b'\n'; 8192]] {
            let mut file = tempfile::NamedTempFile::new_in(&folder).unwrap();
            file.write_all(&head).unwrap();
            let source = FileSource::open(file.path()).unwrap();
            assert_eq!(source.format(), DetectedFormat::Raw);
            assert_eq!(source.disregarded(), Some(DetectedFormat::of(&head)));
            assert_eq!(source.regions(), [0..head.len() as u64]);
        }
    }
    let file = memfd(lime.len() as u64, 0).unwrap();
    (&file).write_all(&lime).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    assert_eq!(FileSource::open(&path).unwrap().format(), DetectedFormat::Raw);
}

#[test]
fn a_dump_that_is_not_open_for_writing_is_detected_also_in_tmpfs() {
    for folder in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
        let mut file = tempfile::NamedTempFile::new_in(folder).unwrap();
        file.write_all(&forged(b"EMiL\x01\0\0\0")).unwrap();
        // It is detected even while it is written: no guest's memory ends within a page.
        file.write_all(&[0; 5]).unwrap();
        assert_eq!(FileSource::open(file.path()).unwrap().format(), DetectedFormat::Lime);
        file.as_file().set_len(3 * 4096).unwrap();
        let path = file.into_temp_path();
        let source = FileSource::open(&path).unwrap();
        assert_eq!((source.format(), source.disregarded()), (DetectedFormat::Lime, None));
        assert_eq!(source.regions(), [0..0x3000]);
    }
}

#[test]
fn the_user_can_set_the_format() {
    let path = file_of(&forged(b"EMiL\x01\0\0\0"));
    let format = |given| FileSource::open_as(&path, given).unwrap().format();
    assert_eq!(format(FileFormat::Raw), DetectedFormat::Raw);
    assert_eq!(format(FileFormat::Auto), DetectedFormat::Lime);
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(format(FileFormat::Auto), DetectedFormat::Raw);
    assert_eq!(format(FileFormat::Dump), DetectedFormat::Lime);
    drop(writer);
    assert_eq!(format(FileFormat::Auto), DetectedFormat::Lime);
}

#[track_caller]
fn check_refused(path: &Path, class: ErrorClass, words: &str) {
    let error = FileSource::open(path).unwrap_err();
    assert_eq!(error.class(), class, "{error}");
    let message = error.to_string();
    assert!(message.contains(words), "{message}");
    assert!(message.contains(&path.display().to_string()), "{message}");
}

#[test]
fn a_file_without_memory_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    check_refused(&folder.path().join("gone"), ErrorClass::CannotOpen, "No such file");
    check_refused(folder.path(), ErrorClass::CannotOpen, "a directory");
    check_refused(Path::new("/dev/null"), ErrorClass::CannotOpen, "a character device");
    check_refused(&file_of(b""), ErrorClass::CannotOpen, "empty");
    check_refused(&file_of(&[0; 5000]), ErrorClass::Unreadable, "5000 bytes");
    check_refused(&file_of(b"a: 1\n"), ErrorClass::Unreadable, "text");
    let core = file_of(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0>\0");
    check_refused(&core, ErrorClass::Unreadable, "ends before its headers");
    check_refused(&file_of(b"EMiL\x01\0\0\0"), ErrorClass::Unreadable, "no memory");
    check_refused(&file_of(b"KDUMP   \x06"), ErrorClass::Unreadable, "ends before");
    check_refused(&file_of(b"QFI\xfb\0\0\0\x03"), ErrorClass::Unreadable, "qcow2");
}

#[test]
fn other_formats_are_refused_with_the_command_that_converts_them() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], words: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = FileSource::open(&path).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unreadable, "{error}");
        let words = words.replace("{}", path.to_str().unwrap());
        assert!(error.to_string().ends_with(&words), "{error}");
    };
    let at = |offset: usize, mark: &[u8]| {
        let mut bytes = vec![0; 0x2_0000];
        bytes[offset..offset + mark.len()].copy_from_slice(mark);
        bytes
    };
    check("a.gz", b"\x1f\x8b\x08", "compressed with gzip: unpack it: gzip -dc {} > memory.dump");
    check("a b.xz", b"\xfd7zXZ\0", "unpack it: xz -dc '{}' > memory.dump");
    check("a.dmp", &at(0, b"PAGEDU64"), "for Windows: vol -f {} windows.info");
    check("a.vma", &at(0, b"VMA\0\0\0\0\x01"), "vma extract {} folder");
    // Far from the beginning, and at the end.
    check("a.iso", &at(0x8001, b"CD001"), "give the memory dump that may be in it");
    check("a.vhd", &at(0x1_fe00, b"conectix"), "with LiME or AVML");
    check("debug.guest", &[0; 4096], "give debug.vmem, unpacked");
    // Short marks count if the file cannot be raw memory.
    check("a.zlib", b"\x38\x8d12345", "pigz -dc < {} > memory.lime");
    std::fs::write(folder.path().join("raw"), at(510, b"\x55\xaa")).unwrap();
    let source = FileSource::open(&folder.path().join("raw")).unwrap();
    assert_eq!(source.format(), DetectedFormat::Raw);
    assert_eq!(source.doubt().unwrap().name, "a disk with partitions (MBR)");
}

#[test]
fn the_users_regions_place_raw_memory_without_gaps() {
    let path = file_of(&[vec![1; 0xc00], vec![2; 0x1000]].concat());
    let regions = [0x1000..0x1c00, 0x10_0000..0x10_1000];
    let opening = FileSourceOptions { regions: Some(&regions), ..FileSourceOptions::default() };
    let mut source = FileSource::open_with(&path, opening).unwrap();
    assert_eq!(source.format(), DetectedFormat::Raw);
    let mut bytes = [0; 3];
    assert!(source.read_exact(PhysicalAddress(0x1bfd), &mut bytes));
    assert_eq!(bytes, [1; 3]);
    assert!(source.read_exact(PhysicalAddress(0x10_0000), &mut bytes));
    assert_eq!(bytes, [2; 3]);
    assert!(!source.read_exact(PhysicalAddress(0x1c00), &mut bytes));
    // Memory that has its gaps needs no regions, and such of another machine are ignored.
    let flat = file_of(&vec![1; 0x10_2000]);
    let source = FileSource::open_with(&flat, opening).unwrap();
    assert_eq!(source.regions(), [0..0x10_2000]);
    let lacks = source.lacks().to_string();
    assert_eq!(
        lacks,
        "memory_regions_path is not used: the file is long enough to have the gaps too"
    );
    let source = FileSource::open_with(&file_of(&[1; 4096]), opening).unwrap();
    assert_eq!(source.regions(), [0..0x1000]);
    assert!(source.lacks().to_string().contains("do not add up"), "{}", source.lacks());
    let lime = file_of(&forged(b"EMiL\x01\0\0\0"));
    let source = FileSource::open_with(&lime, opening).unwrap();
    assert!(source.lacks().to_string().contains("addresses of its own"), "{}", source.lacks());
}

#[test]
fn gaps_are_searched_once_and_never_in_live_memory() {
    let path = file_of(&[1; 8192]);
    let mut source = FileSource::open(&path).unwrap();
    assert!(!source.find_gaps().unwrap());
    assert!(source.lacks_gaps());
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    let mut source = FileSource::open(&path).unwrap();
    assert!(!source.find_gaps().unwrap());
    assert!(!source.lacks_gaps());
    drop(writer);
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(bounded::status(std::process::Command::new("mkfifo").arg(&path)).unwrap().success());
    check_refused(&path, ErrorClass::CannotOpen, "a pipe");
}

#[test]
fn memory_without_a_name_is_opened_through_proc() {
    let file = memfd(0x4000, 0).unwrap();
    (&file).write_all(&[7; 0x1000]).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let mut source = FileSource::open(&path).unwrap();
    assert_eq!(source.format(), DetectedFormat::Raw);
    assert_eq!(source.regions(), [0..0x4000]);
    assert_eq!(source.next_data(PhysicalAddress(0)), Some(0..0x1000));
    let mut bytes = [0; 3];
    assert!(source.read_exact(PhysicalAddress(0xffd), &mut bytes));
    assert_eq!(bytes, [7; 3]);
    assert!(source.read_exact(PhysicalAddress(0x1000), &mut bytes));
    assert_eq!(bytes, [0; 3], "a hole");
    assert!(!source.read_exact(PhysicalAddress(0x4000), &mut bytes));
}

fn watched(path: &Path, format: FileFormat) -> Result<FileSource, SourceError> {
    FileSource::open_with(path, FileSourceOptions { format, is_watched: true, regions: None })
}

#[test]
fn what_is_in_memory_or_on_a_local_disk_can_be_watched() {
    let path = file_of(&[7; 0x1000]);
    assert!(watched(&path, FileFormat::Auto).is_ok());
    let file = memfd(0x1000, 0).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    assert!(watched(&path, FileFormat::Raw).is_ok());
    let error = watched(Path::new("/dev/null"), FileFormat::Auto).unwrap_err();
    assert!(error.to_string().contains("a character device"), "{error}");
}

#[test]
fn a_recorded_image_is_replayed() {
    let pages = vec![3; 4096];
    let memory = Replay::from_pages(vec![0..0x8000], vec![2], pages).unwrap();
    let mut recorder = Recorder::new(memory).unwrap();
    assert!(recorder.read_exact(PhysicalAddress(0x2000), &mut [0]));
    let mut image = Vec::new();
    recorder.write_image(&mut image).unwrap();
    let file = file_of(&image);
    let mut source = FileSource::open(&file).unwrap();
    assert_eq!(source.format(), DetectedFormat::Recorded);
    assert_eq!(source.next_data(PhysicalAddress(0)), Some(0x2000..0x3000));
    let mut bytes = [0; 8];
    assert!(source.read_exact(PhysicalAddress(0x2ff8), &mut bytes));
    assert_eq!(bytes, [3; 8]);

    let cut = file_of(&image[..image.len() - 8]);
    let error = FileSource::open(&cut).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unreadable, "{error}");
}

#[test]
fn what_holds_no_memory_is_told_without_a_search() {
    let text = file_of(b"[Unit]\nDescription=web-1\n");
    assert!(FileSource::is_no_memory(&text));
    let pages_of_text = file_of(&[b'\n'; 8192]);
    assert!(FileSource::is_no_memory(&pages_of_text));
    assert!(FileSource::is_no_memory(&file_of(b"PK\x03\x04 and so on")));
    assert!(FileSource::is_no_memory(&std::env::temp_dir()));
    assert!(FileSource::is_no_memory(Path::new("/dev/null")));
    assert!(!FileSource::is_no_memory(&file_of(&[7; 8192])));
    assert!(!FileSource::is_no_memory(&file_of(b"")));
    assert!(!FileSource::is_no_memory(Path::new("/nowhere/at/all")));
    // A guest can write text into its memory.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[b'\n'; 8192]).unwrap();
    assert!(!FileSource::is_no_memory(file.path()));
}
