//! Reads the memory regions of a machine from a file that was created on that machine.
//!
//! Two formats are supported: App Shield's `mem_regions.json`, which NVIDIA's `doca_apsh_config.py
//! --files memregions` creates, and a copy of `/proc/iomem`, its origin.
//!
//! The JSON is `{"allowed_regions": {"0": {"length": N, "start": N}, …}}` in decimal. The output of
//! that program (DOCA 2.6) has two defects. There is a comma after each last member, which is
//! invalid JSON. And lengths are one too small, because the program subtracts the first address
//! from the last one of a line of `/proc/iomem` ("00001000-0009fbff : System RAM"). The parser
//! corrects both. (Files for Windows machines have whole pages as lengths, which remain unchanged.)
//!
//! Not for: reading the memory. The file's content is a claim of the watched machine.

use std::ops::Range;

use panoptes_decoders::source::ADDRESS_END;
use serde_json::{Map, Value};

/// Maximum size of a file in bytes; a machine has some dozens of regions.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Maximum number of regions.
pub const REGIONS_MAX: usize = 1024;

/// Why a file has no usable regions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionsError {
    #[error("it is far too large for a list of memory regions")]
    TooLarge,
    #[error("it is neither App Shield's mem_regions.json nor a copy of /proc/iomem")]
    Unknown,
    #[error("it is not the JSON that it begins as: {0}")]
    Json(serde_json::Error),
    #[error("it has no object `allowed_regions`")]
    Missing,
    #[error("its region {name:?} needs `start` and `length`, both numbers")]
    Member { name: String },
    #[error("its region at {start:#x} is empty, overlaps another, or ends beyond all addresses")]
    Region { start: u64 },
    #[error(
        "all its addresses are zero, as /proc/iomem shows them to others than root: copy it as root"
    )]
    Hidden,
    #[error("it has no region of memory")]
    NoRegions,
    #[error("it has {count} regions, more than the {} of any machine", REGIONS_MAX)]
    TooMany { count: usize },
}

/// The regions in a file, ascending. They need not be page-aligned.
pub fn parse(bytes: &[u8]) -> Result<Vec<Range<u64>>, RegionsError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(RegionsError::TooLarge);
    }
    let mut regions = if bytes.trim_ascii_start().starts_with(b"{") {
        from_json(bytes)?
    } else {
        from_iomem(bytes)?
    };
    if regions.is_empty() {
        return Err(RegionsError::NoRegions);
    }
    if regions.len() > REGIONS_MAX {
        return Err(RegionsError::TooMany { count: regions.len() });
    }
    regions.sort_unstable_by_key(|region| region.start);
    let mut before = 0;
    for region in &regions {
        if region.start < before || region.end <= region.start || region.end > ADDRESS_END {
            return Err(RegionsError::Region { start: region.start });
        }
        before = region.end;
    }
    Ok(regions)
}

fn from_json(bytes: &[u8]) -> Result<Vec<Range<u64>>, RegionsError> {
    let bytes = without_last_commas(bytes);
    let file: Map<String, Value> = serde_json::from_slice(&bytes).map_err(RegionsError::Json)?;
    let Some(Value::Object(members)) = file.get("allowed_regions") else {
        return Err(RegionsError::Missing);
    };
    if members.len() > REGIONS_MAX {
        return Err(RegionsError::TooMany { count: members.len() });
    }
    let mut regions = Vec::with_capacity(members.len());
    for (name, member) in members {
        let number = |key| member.get(key).and_then(Value::as_u64);
        let (Some(start), Some(length)) = (number("start"), number("length")) else {
            return Err(RegionsError::Member { name: name.clone() });
        };
        let end = start.checked_add(length).filter(|end| *end < ADDRESS_END);
        let end = end.ok_or(RegionsError::Region { start })?;
        // An odd end is the address of the last byte: memory is not measured in single bytes.
        regions.push(start..end + end % 2);
    }
    Ok(regions)
}

/// Copies `bytes` and removes commas before closing brackets, except in strings.
fn without_last_commas(bytes: &[u8]) -> Vec<u8> {
    let mut copy: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut comma = None;
    let (mut in_string, mut escaped) = (false, false);
    for &byte in bytes {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            match byte {
                b',' => comma = Some(copy.len()),
                b'}' | b']' => {
                    if let Some(at) = comma.take() {
                        copy[at] = b' ';
                    }
                }
                _ if byte.is_ascii_whitespace() => {}
                _ => {
                    comma = None;
                    in_string = byte == b'"';
                }
            }
        }
        copy.push(byte);
    }
    copy
}

/// Parses the lines of `/proc/iomem` for memory that the kernel uses (kernel/resource.c, `r_show`):
/// "start-end : System RAM", both in hex and inclusive, nested ones indented.
fn from_iomem(bytes: &[u8]) -> Result<Vec<Range<u64>>, RegionsError> {
    let text = std::str::from_utf8(bytes).map_err(|_| RegionsError::Unknown)?;
    let mut regions = Vec::new();
    let mut lines = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (range, name) = line.split_once(" : ").ok_or(RegionsError::Unknown)?;
        let (start, end) = range.trim_start().split_once('-').ok_or(RegionsError::Unknown)?;
        let hex = |digits: &str| u64::from_str_radix(digits, 16).ok().filter(|n| *n < ADDRESS_END);
        let (Some(start), Some(end)) = (hex(start), hex(end)) else {
            return Err(RegionsError::Unknown);
        };
        lines += 1;
        let is_top = !line.starts_with(char::is_whitespace);
        // Hotplugged memory has its driver's name in parentheses ("System RAM (virtio_mem)").
        if is_top && (name == "System RAM" || name.starts_with("System RAM (")) {
            if regions.len() > REGIONS_MAX {
                return Err(RegionsError::TooMany { count: regions.len() });
            }
            regions.push(start..end + 1);
        }
    }
    if lines == 0 {
        return Err(RegionsError::Unknown);
    }
    if !regions.is_empty() && regions.iter().all(|region| *region == (0..1)) {
        return Err(RegionsError::Hidden);
    }
    Ok(regions)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of regions with one region")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Output of doca_apsh_config.py for the lines below, including its extra commas.
    const JSON: &str = "{\n   \"allowed_regions\" : {\n      \"0\" : {\n         \
        \"length\" : 650238,\n         \"start\" : 4096\n      },\n      \"1\" : {\n         \
        \"length\" : 2146304,\n         \"start\" : 1048576\n      },\n   }\n}\n";

    const IOMEM: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
000a0000-000bffff : PCI Bus 0000:00
00100000-3ffdbfff : System RAM
  01000000-01ffffff : Kernel code
  1f000000-2effffff : System RAM
100000000-13fffffff : System RAM (virtio_mem)
";

    fn check(text: &str, expected: &[Range<u64>]) {
        assert_eq!(parse(text.as_bytes()).unwrap(), expected);
    }

    #[track_caller]
    fn check_refused(text: &str, words: &str) {
        let message = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(words) && !message.contains('\n'), "{message}");
    }

    #[test]
    fn the_file_of_app_shield_is_read() {
        let (first, second) = (4096 + 650_238, 1_048_576 + 2_146_304);
        check(JSON, &[4096..first, 1_048_576..second]);
        // One short of 0x9fc00, from the line "00001000-0009fbff".
        let short = r#"{"allowed_regions": {"0": {"length": 650239, "start": 4096}}}"#;
        check(short, &[0x1000..0x9_fc00]);
        let regions = r#"{"allowed_regions": {"0": {"start": 8192, "length": 4096},
            "1": {"start": 0, "length": 4096}}, "more, ]": ",}"}"#;
        check(regions, &[0..4096, 8192..12288]);
    }

    #[test]
    fn a_copy_of_iomem_is_read() {
        let regions = [0x1000..0x9_fc00, 0x10_0000..0x3ffd_c000, 0x1_0000_0000..0x1_4000_0000];
        check(IOMEM, &regions);
    }

    #[test]
    fn errors_state_the_reason() {
        check_refused("", "neither");
        check_refused("hello", "neither");
        check_refused("{", "JSON");
        check_refused("{}", "`allowed_regions`");
        check_refused(r#"{"allowed_regions": {}}"#, "no region");
        check_refused(r#"{"allowed_regions": {"0": {"start": 1}}}"#, "\"0\" needs");
        check_refused(r#"{"allowed_regions": {"0": {"start": 4096, "length": 0}}}"#, "0x1000 is");
        let end = r#"{"allowed_regions": {"0": {"start": 4096, "length": 18446744073709551615}}}"#;
        check_refused(end, "beyond all");
        let twice = r#"{"allowed_regions": {"0": {"start": 0, "length": 9000},
            "1": {"start": 4096, "length": 4096}}}"#;
        check_refused(twice, "0x1000 is");
        check_refused("00000000-00000000 : System RAM\n00000000-00000000 : Reserved\n", "as root");
        check_refused("00000000-00000fff : Reserved\n", "no region");
        check_refused(&format!("{{{}", " ".repeat(FILE_BYTES_MAX)), "too large");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            start in "[{ ]?",
            text in concat!(
                r#"[{}\[\]",:0-9a-f\\ \n-]{0,40}|allowed_regions|"#,
                r"(1000-1fff : System RAM\n){0,3}",
            ),
        ) {
            if let Ok(regions) = parse(format!("{start}{text}").as_bytes()) {
                prop_assert!(regions.is_sorted_by(|one, next| one.end <= next.start));
            }
        }
    }
}
