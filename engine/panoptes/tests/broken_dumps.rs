//! Files that are no whole dump: the error is one line that says what went wrong.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::process::{Command, Stdio};

use panoptes_bounded as bounded;

const BYTES: usize = 4 << 20;

/// Scans a file with this content, and returns what the program prints about it.
fn refusal(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory");
    fs::write(&path, content).unwrap();
    let mut scan = Command::new(env!("CARGO_BIN_EXE_panoptes"));
    scan.arg("scan").arg(&path).stdin(Stdio::null());
    let done = bounded::output(&mut scan).unwrap();
    assert_eq!(done.status.code(), Some(65));
    assert!(done.stdout.is_empty());
    let said = String::from_utf8(done.stderr).unwrap();
    // The file does not change, so no kernel will start in it.
    assert!(!said.contains("still starting"), "{said}");
    assert!(!said.contains("one after another"), "{said}");
    said
}

#[test]
fn a_file_of_zeros_was_not_copied() {
    let said = refusal(&vec![0; BYTES]);
    assert!(said.contains("it holds only zeros: nothing was copied; dump again"), "{said}");
}

#[test]
fn a_file_of_random_bytes_is_no_memory() {
    // xorshift64 (Marsaglia), from a fixed seed.
    let mut state = 88_172_645_463_325_252_u64;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let content: Vec<u8> = random.flatten().take(BYTES).collect();
    let said = refusal(&content);
    assert!(said.contains("it looks compressed or encrypted"), "{said}");
}

#[test]
fn a_copy_that_ends_before_the_page_tables_was_cut_short() {
    let mut content = vec![0; BYTES];
    let text = "OSRELEASE=6.1.0-test\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff82a00000\n\
                SYMBOL(swapper_pg_dir)=ffffffff82610000\nSYMBOL(_stext)=ffffffff81000000\n\
                NUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\n";
    content[0x1000..0x1000 + text.len()].copy_from_slice(text.as_bytes());
    let said = refusal(&content);
    let expected = "the kernel's page tables are at 0x2610ff8, and the file ends at 0x400000: the \
                    copy was cut short; copy it again";
    assert!(said.contains(expected), "{said}");
}
