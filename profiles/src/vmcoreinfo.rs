//! VMCOREINFO (kernel/crash_core.c, since v6.9 kernel/vmcore_info.c): a text in the kernel's memory
//! for programs that analyze it after a crash.
//!
//! For: release, build id, the addresses of a few symbols (KASLR included) and numbers. Not for:
//! trusting them. Anybody can write such a text to memory, the kernel's own format strings resemble
//! one, and several genuine ones exist; `discovery` verifies their content against the memory.

use memchr::memmem;

/// Maximum number of bytes that are read: `VMCOREINFO_BYTES` (include/linux/vmcore_info.h, v6.12)
/// is one page, and this leaves room for growth.
pub const VMCOREINFO_BYTES_MAX: usize = 8192;

/// The beginning of the text.
pub const BEGINNING: &[u8] = b"OSRELEASE=";

/// Longest release (`__NEW_UTS_LEN`, include/uapi/linux/utsname.h).
pub const RELEASE_BYTES_MAX: usize = 64;

/// The beginning of a kernel's banner (init/version-timestamp.c).
const BANNER: &[u8] = b"Linux version ";

/// A parsed text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vmcoreinfo {
    text: String,
}

/// Why bytes are not a VMCOREINFO text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VmcoreinfoError {
    /// The text does not begin with `OSRELEASE=` and a plausible release.
    #[error("VMCOREINFO: no release")]
    Release,
    /// The text has only a release: a fragment, or a format string.
    #[error("VMCOREINFO: nothing but a release")]
    Fragment,
}

impl Vmcoreinfo {
    /// Parses the text at the beginning of `bytes`: lines of printable ASCII, up to the first other
    /// byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, VmcoreinfoError> {
        let bytes = bytes.get(..VMCOREINFO_BYTES_MAX).unwrap_or(bytes);
        let is_text = |byte: &u8| *byte == b'\n' || (0x20..0x7f).contains(byte);
        let length = bytes.iter().position(|byte| !is_text(byte)).unwrap_or(bytes.len());
        let text = bytes.get(..length).unwrap_or(&[]);
        // A last line without a line feed was cut where the kernel's page was full.
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let text = text.get(..whole).and_then(|text| str::from_utf8(text).ok()).unwrap_or("");
        let parsed = Self { text: text.to_owned() };
        let release = parsed.release();
        if !text.as_bytes().starts_with(BEGINNING) || !is_release(release) {
            return Err(VmcoreinfoError::Release);
        }
        if parsed.text.lines().nth(1).is_none() {
            return Err(VmcoreinfoError::Fragment);
        }
        Ok(parsed)
    }

    /// The kernel release, such as `6.1.0-37-amd64`.
    pub fn release(&self) -> &str {
        self.value("OSRELEASE").unwrap_or("")
    }

    /// The build id in lower-case hex, if the text has one (v5.10 and later).
    pub fn build_id(&self) -> Option<&str> {
        let id = self.value("BUILD-ID")?;
        let plausible = (2..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        plausible.then_some(id)
    }

    /// Distance by which KASLR moved the image (`KERNELOFFSET`, hexadecimal without a prefix).
    pub fn kernel_offset(&self) -> Option<u64> {
        u64::from_str_radix(self.value("KERNELOFFSET")?, 16).ok()
    }

    /// `PAGESIZE`, in bytes.
    pub fn page_size(&self) -> Option<u64> {
        self.value("PAGESIZE")?.parse().ok()
    }

    /// `SYMBOL(name)`: an address, hexadecimal without a prefix.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.bracketed("SYMBOL", name)?, 16).ok()
    }

    /// `NUMBER(name)`: decimal with a sign, or hexadecimal with a prefix.
    pub fn number(&self, name: &str) -> Option<i64> {
        let value = self.bracketed("NUMBER", name)?;
        match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(|number| number as i64),
            None => value.parse().ok(),
        }
    }

    /// `OFFSET(structure.member)`: decimal.
    pub fn offset(&self, member: &str) -> Option<u64> {
        self.bracketed("OFFSET", member)?.parse().ok()
    }

    /// `SIZE(structure)`: decimal.
    pub fn size(&self, structure: &str) -> Option<u64> {
        self.bracketed("SIZE", structure)?.parse().ok()
    }

    /// The complete text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    fn bracketed(&self, kind: &str, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            line.strip_prefix(kind)?.strip_prefix('(')?.strip_prefix(name)?.strip_prefix(")=")
        })
    }
}

/// Whether a text can be a release: a number, a dot, a number, then a short text without blanks.
/// The kernel's format string (`OSRELEASE=%s`) is not one.
fn is_release(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let major = digits(text);
    let Some(rest) = text.get(major..).and_then(|rest| rest.strip_prefix('.')) else {
        return false;
    };
    (1..=3).contains(&major)
        && digits(rest) > 0
        && text.len() <= RELEASE_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The release in a kernel's banner.
pub(crate) fn release_of_banner(text: &[u8]) -> Option<&str> {
    let rest = text.strip_prefix(BANNER)?;
    let end = rest.iter().take(128).position(|&byte| byte == b' ')?;
    str::from_utf8(&rest[..end]).ok().filter(|release| is_release(release))
}

/// The release in the first banner of a kernel's image. The kernel's format strings have the same
/// beginning, but then no release.
pub(crate) fn find_release(piece: &[u8]) -> Option<&str> {
    find_banner(piece).map(|(_, release)| release)
}

/// The same with the banner's offset.
pub(crate) fn find_banner(piece: &[u8]) -> Option<(usize, &str)> {
    memmem::find_iter(piece, BANNER).find_map(|at| Some((at, release_of_banner(piece.get(at..)?)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLE: &str = "OSRELEASE=6.1.0-37-cloud-amd64\n\
        BUILD-ID=d33b4c3ff8c3a1c77b8ebe0b6e4d1bcbd0ccdb5b\n\
        PAGESIZE=4096\n\
        SYMBOL(init_uts_ns)=ffffffff9441b8a0\n\
        OFFSET(uts_namespace.name)=0\n\
        SYMBOL(swapper_pg_dir)=ffffffff94412000\n\
        SIZE(page)=64\n\
        NUMBER(VMALLOC_START)=0xffa0000000000000\n\
        NUMBER(phys_base)=-1895825408\n\
        NUMBER(pgtable_l5_enabled)=1\n\
        KERNELOFFSET=11a00000\n\
        NUMBER(cut_of";

    #[test]
    fn each_kind_of_line_is_read() {
        let info = Vmcoreinfo::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!(info.release(), "6.1.0-37-cloud-amd64");
        assert_eq!(info.build_id(), Some("d33b4c3ff8c3a1c77b8ebe0b6e4d1bcbd0ccdb5b"));
        assert_eq!(info.symbol("swapper_pg_dir"), Some(0xffff_ffff_9441_2000));
        assert_eq!(info.number("phys_base"), Some(-1_895_825_408));
        assert_eq!(info.number("pgtable_l5_enabled"), Some(1));
        assert_eq!(info.number("VMALLOC_START"), Some(0xffa0_0000_0000_0000_u64 as i64));
        assert_eq!(info.kernel_offset(), Some(0x11a0_0000));
        assert_eq!(info.offset("uts_namespace.name"), Some(0));
        assert_eq!(info.size("page"), Some(64));
        assert_eq!(info.page_size(), Some(4096));
        assert_eq!(info.symbol("swapper"), None);
        assert_eq!(info.number("cut_of"), None);
    }

    #[test]
    fn decoys_are_refused() {
        for decoy in ["OSRELEASE=%s\nBUILD-ID=%20phN\n", "OSRELEASE=\n\n", "osrelease=6.1\nx\n", ""]
        {
            assert_eq!(
                Vmcoreinfo::parse(decoy.as_bytes()),
                Err(VmcoreinfoError::Release),
                "{decoy}"
            );
        }
        assert_eq!(Vmcoreinfo::parse(b"OSRELEASE=6.1.0\n\0"), Err(VmcoreinfoError::Fragment));
        assert_eq!(Vmcoreinfo::parse(b"OSRELEASE=6.1.0"), Err(VmcoreinfoError::Release));
    }

    #[test]
    fn a_release_is_distinguished_from_a_format_string() {
        let piece = b"..Linux version %s (..Linux version 6.1.0-50-amd64 (debian..";
        assert_eq!(find_release(piece), Some("6.1.0-50-amd64"));
        assert_eq!(find_release(b"Linux version 6.1.0"), None);
    }

    #[test]
    fn text_ends_at_the_first_other_byte() {
        let mut bytes = b"OSRELEASE=6.1.0\nPAGESIZE=4096\n".to_vec();
        bytes.extend(b"\0SYMBOL(_stext)=1\n");
        let info = Vmcoreinfo::parse(&bytes).unwrap();
        assert_eq!(info.symbol("_stext"), None);
        assert_eq!(info.text().len(), 30);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(tail: Vec<u8>) {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            bytes.extend(&tail);
            let _ = Vmcoreinfo::parse(&bytes);
            let _ = Vmcoreinfo::parse(&tail);
        }
    }
}
