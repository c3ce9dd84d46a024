//! Reads DWARF written by the host's C compiler, if it has one.

use std::collections::HashMap;
use std::process::Command;

use object::{Object as _, ObjectSection as _};
use panoptes_bounded as bounded;
use panoptes_decoders::layout::{Member, Members};

use super::{Dwarf, SECTIONS};

const SOURCE: &str = "
struct list_head { struct list_head *next, *prev; };
typedef struct { int counter; } atomic_t;
struct declared;
typedef struct kuid { unsigned val; } kuid_t;
union either { char small; long long large; };
struct task {
    unsigned long first;
    struct { int a; union { short b; struct { int c, d; }; }; };
    unsigned wide : 3, narrow : 5;
    const volatile kuid_t uid;
    struct list_head tasks;
    char comm[16];
    int grid[3][4];
    union either either;
    void (*call)(int);
    enum { ONE, TWO } number;
    struct declared *far;
    _Bool flag;
    atomic_t count;
    long flexible[];
};
struct task *task(void) { return 0; }
enum bits { LOCKED, UPTODATE = 3, MINUS = -1 };
enum bits bits(void) { return UPTODATE; }
";

fn check(members: &Dwarf<'_>) {
    let at = |structure: &str, path: &str| {
        members.member(structure, path).map(|Member { offset, size }| (offset, size))
    };
    for (path, expected) in [
        ("first", (0, 8)),
        ("a", (8, 4)),
        ("b", (12, 2)),
        ("d", (16, 4)),
        ("uid", (24, 4)),
        ("uid.val", (24, 4)),
        ("tasks", (32, 16)),
        ("tasks.prev", (40, 8)),
        ("comm", (48, 16)),
        ("grid", (64, 48)),
        ("either", (112, 8)),
        ("either.small", (112, 1)),
        ("call", (120, 8)),
        ("number", (128, 4)),
        ("far", (136, 8)),
        ("flag", (144, 1)),
        ("count.counter", (148, 4)),
        ("flexible", (152, 0)),
    ] {
        assert_eq!(at("task", path), Some(expected), "{path}");
    }
    for path in ["wide", "nobody", "far.x", "first.x", "", "tasks.next.next"] {
        assert_eq!(at("task", path), None, "{path}");
    }
    assert_eq!(members.size_of("task"), Some(152));
    assert_eq!(members.size_of("atomic_t"), Some(4));
    assert_eq!(at("atomic_t", "counter"), Some((0, 4)));
    assert_eq!(members.size_of("declared"), None);
    assert_eq!(at("bits", "UPTODATE"), Some((3, 0)));
    assert_eq!(members.size_of("bits"), Some(4));
    assert_eq!(at("bits", "nobody"), None);
    assert_eq!(at("bits", "MINUS"), None);
}

#[test]
fn output_of_a_compiler_is_read() {
    if !panoptes_needs::skip::has("cc") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (source, object) = (folder.path().join("t.c"), folder.path().join("t.o"));
    std::fs::write(&source, SOURCE).unwrap();
    for version in [2, 4, 5] {
        let compiler = bounded::status(
            Command::new("cc")
                .args(["-c", "-O1", &format!("-gdwarf-{version}"), "-gstrict-dwarf", "-o"])
                .args([&object, &source]),
        );
        assert!(compiler.is_ok_and(|status| status.success()), "version {version}");
        let bytes = std::fs::read(&object).unwrap();
        let file = object::File::parse(bytes.as_slice()).unwrap();
        let data: Vec<_> =
            SECTIONS.iter().filter_map(|name| Some((*name, relocated(&file, name)?))).collect();
        let sections: HashMap<_, _> = data.iter().map(|(name, data)| (*name, &data[..])).collect();
        check(&Dwarf::parse(&sections).unwrap());
    }
}

/// A section with its relocations applied, as by a linker.
fn relocated(file: &object::File<'_>, name: &str) -> Option<Vec<u8>> {
    use object::ObjectSymbol as _;
    let section = file.section_by_name(name)?;
    let mut data = section.data().ok()?.to_vec();
    for (at, relocation) in section.relocations() {
        let object::RelocationTarget::Symbol(index) = relocation.target() else { continue };
        let symbol = file.symbol_by_index(index).unwrap();
        let value = symbol.address().wrapping_add_signed(relocation.addend());
        let (at, size) = (at as usize, usize::from(relocation.size()) / 8);
        data[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
    Some(data)
}

#[test]
fn damage_is_an_error_or_an_absence() {
    let sections =
        HashMap::from([(".debug_info", &[0xff_u8; 64][..]), (".debug_abbrev", &[1; 64])]);
    assert!(Dwarf::parse(&sections).is_err());
    assert!(Dwarf::parse(&HashMap::new()).is_err());
}
