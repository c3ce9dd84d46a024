//! SYSTEM: the address of a machine to watch.
//!
//! `file:PATH`, `qemu:PID`, `qemu:NAME`, `libvirt:NAME`, `uuid:UUID`, `host:`,
//! `doca:DEVICE/VUID`; a bare path means `file:`.
//!
//! Not for: opening any of them (the engine's sources).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use panoptes_decoders::kernel::task_struct::PID_MAX_LIMIT;

use super::guest_name::GuestName;
use super::problem::printable;
use super::section::nearest;
use super::value::Setting;

/// The address of a machine to watch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SystemAddress {
    /// Live shared guest memory or a dump; the format is detected.
    File(PathBuf),
    /// A running guest, by the process id of QEMU or of another monitor.
    Qemu(u32),
    /// A guest by its name, whichever process it has.
    Guest(GuestName),
    /// The host itself.
    Host,
    /// Memory of a host function through a BlueField's DMA engine.
    Doca {
        /// The DMA device, as `ibv_devinfo` lists it.
        device: String,
        /// The function's vendor unique id.
        vuid: String,
    },
}

impl SystemAddress {
    /// Reads an argument of the command line; the error completes "`text` …".
    pub fn from_argument(text: &OsStr) -> Result<Self, String> {
        Self::from_bytes(text.as_bytes(), Path::new(""))
    }

    /// The name of a system for which only the address is given.
    pub fn default_name(&self) -> String {
        match self {
            Self::File(path) => path.file_name().map_or_else(
                || printable(&path.to_string_lossy()),
                |name| printable(&name.to_string_lossy()),
            ),
            // DOCA Argus identifies a function by its VUID (guide §7.3).
            Self::Doca { vuid, .. } => vuid.clone(),
            Self::Guest(name) => printable(&name.short()),
            Self::Qemu(_) => self.to_string(),
            // Names stand before a colon in messages.
            Self::Host => "host".to_owned(),
        }
    }

    /// The file or else the guest of this name, if `text` is a bare word: no kind of system and no
    /// folder precedes it. The address is what `text` was read as.
    pub(crate) fn or_guest(self, text: &OsStr) -> Self {
        let Self::File(path) = &self else { return self };
        let begin = text.as_bytes().get(..5).unwrap_or_default();
        let is_explicit = begin.eq_ignore_ascii_case(b"file:");
        let bare = GuestName::bare(text, path).filter(|_| !is_explicit);
        bare.map_or(self, Self::Guest)
    }

    /// The file of a bare word, if it is there now.
    pub(crate) fn or_file(self) -> Self {
        match self {
            Self::Guest(GuestName::Bare { file, .. }) if file.symlink_metadata().is_ok() => {
                Self::File(file)
            }
            other => other,
        }
    }

    /// Whether both are written alike: which of a file and a guest a bare word is can change.
    pub(crate) fn is_written_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Guest(GuestName::Bare { file, .. }), Self::File(path))
            | (Self::File(path), Self::Guest(GuestName::Bare { file, .. })) => file == path,
            _ => self == other,
        }
    }

    /// The guest that the name of a system names: `web-1`, `libvirt:web-1`. The error completes
    /// "it …".
    pub(super) fn of_key(name: &str) -> Result<Self, String> {
        match Self::from_bytes(name.as_bytes(), Path::new(""))? {
            guest @ (Self::Qemu(_) | Self::Guest(_)) => Ok(guest),
            Self::File(_) if name.contains('/') => Err("is a path".to_owned()),
            Self::File(_) => {
                GuestName::claimed(format!("guest={name}").as_bytes()).map(Self::Guest)
            }
            Self::Host | Self::Doca { .. } => Err("names another machine".to_owned()),
        }
    }

    fn from_bytes(text: &[u8], base: &Path) -> Result<Self, String> {
        let colon = text.iter().position(|byte| *byte == b':');
        let Some(scheme) = colon.and_then(|end| scheme(&text[..end])) else {
            if let Some((word, form)) = FORMS.iter().find(|(word, _)| word.as_bytes() == text) {
                return Err(format!(
                    "has no colon; write {form}, or ./{word} for a file of that name"
                ));
            }
            return Self::file(text, base);
        };
        let rest = &text[scheme.len() + 1..];
        let scheme = scheme.as_str();
        match scheme {
            "file" => Self::file(rest, base),
            "qemu" => {
                let pid = std::str::from_utf8(rest).ok().and_then(|rest| rest.parse().ok());
                match pid.filter(|pid| (1..=PID_MAX_LIMIT).contains(pid)) {
                    Some(pid) => Ok(Self::Qemu(pid)),
                    None => GuestName::claimed(rest).map(Self::Guest),
                }
            }
            "libvirt" => GuestName::libvirt(rest).map(Self::Guest),
            "uuid" => GuestName::uuid(rest).map(Self::Guest),
            "host" if rest.is_empty() => Ok(Self::Host),
            "host" => Err("has text after `host:`; write just `host:`".to_owned()),
            "doca" => Self::doca(rest),
            _ => Err(match nearest(scheme, &SCHEMES) {
                Some(near) => format!("starts with `{scheme}:`; did you mean `{near}:`?"),
                None => format!(
                    "starts with `{scheme}:`, which is not a kind of system (file:, qemu:, \
                     libvirt:, uuid:, host:, doca:); for a file of that name write file:{scheme}:…"
                ),
            }),
        }
    }

    fn file(path: &[u8], base: &Path) -> Result<Self, String> {
        if path.is_empty() {
            return Err("names no file; write file:PATH".to_owned());
        }
        if path.contains(&0) {
            return Err("contains a NUL character".to_owned());
        }
        Ok(Self::File(base.join(OsString::from_vec(path.to_vec()))))
    }

    fn doca(rest: &[u8]) -> Result<Self, String> {
        const FORM: &str = "does not name a device and a function; write doca:DEVICE/VUID";
        let rest = std::str::from_utf8(rest).map_err(|_| FORM.to_owned())?;
        let (device, vuid) = rest.split_once('/').ok_or_else(|| FORM.to_owned())?;
        Self::doca_from_parts(device, vuid).ok_or_else(|| FORM.to_owned())
    }

    /// Makes an address from `dma_device` and `representor_id`, the parts of `doca:DEVICE/VUID`.
    pub(crate) fn doca_from_parts(device: &str, vuid: &str) -> Option<Self> {
        let good = |part: &str| String::read(part, Path::new("")).is_ok() && !part.contains('/');
        (good(device) && good(vuid))
            .then(|| Self::Doca { device: device.to_owned(), vuid: vuid.to_owned() })
    }
}

impl Setting for SystemAddress {
    const FORM: &'static str = "SYSTEM";

    fn show(&self) -> String {
        self.to_string()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        Self::from_bytes(text.as_bytes(), base).map(|address| address.or_guest(OsStr::new(text)))
    }
}

impl fmt::Display for SystemAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "file:{}", printable(&path.to_string_lossy())),
            Self::Qemu(pid) => write!(out, "qemu:{pid}"),
            Self::Guest(name) => name.fmt(out),
            Self::Host => out.write_str("host:"),
            Self::Doca { device, vuid } => write!(out, "doca:{device}/{vuid}"),
        }
    }
}

/// The word before a colon, if it could be a kind of system: `dump:2.raw` might be a typing
/// mistake, while `./dump:2.raw` and `C:x` can only be paths.
/// It is in lower case; another case is only that of a kind that is known.
fn scheme(text: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(text).ok().filter(|word| word.len() > 1)?;
    let lower = word.to_ascii_lowercase();
    let is_letters = word.bytes().all(|byte| byte.is_ascii_lowercase());
    (is_letters || SCHEMES.contains(&lower.as_str())).then_some(lower)
}

const SCHEMES: [&str; 6] = ["file", "qemu", "libvirt", "uuid", "host", "doca"];

/// Words without a colon that are hardly meant as the name of a file, and what to write.
const FORMS: [(&str, &str); 3] =
    [("qemu", "qemu:PID"), ("host", "host:"), ("doca", "doca:DEVICE/VUID")];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<SystemAddress, &str>) {
        let found = SystemAddress::from_argument(OsStr::new(text));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
            (found, expected) => panic!("{text}: {found:?} is not {expected:?}"),
        }
    }

    fn file(path: &str) -> SystemAddress {
        SystemAddress::File(path.into())
    }

    #[test]
    fn every_kind_of_system_is_understood() {
        check("file:/dev/shm/web", Ok(file("/dev/shm/web")));
        check("/dev/shm/web", Ok(file("/dev/shm/web")));
        check("web.raw", Ok(file("web.raw")));
        check("qemu:123", Ok(SystemAddress::Qemu(123)));
        check("host:", Ok(SystemAddress::Host));
        let doca = SystemAddress::Doca {
            device: "mlx5_0".into(),
            vuid: "MT2333XZ06YAMLNXS0D0F0VF1".into(),
        };
        check("doca:mlx5_0/MT2333XZ06YAMLNXS0D0F0VF1", Ok(doca));
    }

    #[test]
    fn a_guest_has_a_name() {
        let claimed = |name: &str| Ok(SystemAddress::Guest(GuestName::Claimed(name.to_owned())));
        check("qemu:web-1", claimed("web-1"));
        check("qemu:a:b=c, d", claimed("a:b=c, d"));
        // A number is a process id, unless it is spelt as QEMU spells a name.
        check("qemu:guest=4711", claimed("4711"));
        let libvirt = GuestName::Libvirt("web-1".to_owned());
        check("libvirt:web-1", Ok(SystemAddress::Guest(libvirt)));
        let text = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0";
        let uuid = GuestName::Uuid(text.parse().unwrap());
        check(&format!("uuid:{text}"), Ok(SystemAddress::Guest(uuid.clone())));
        let upper = format!("uuid:{}", text.to_uppercase().replace('-', ""));
        check(&upper, Ok(SystemAddress::Guest(uuid.clone())));
        check("qemu:-name", Err("write qemu:PID with a process id, or qemu:NAME"));
        check("qemu:99999999", Err("write qemu:PID"));
        check("qemu:a\x1b[2J", Err("contains control characters"));
        check(&format!("qemu:{}", "a".repeat(5000)), Err("is longer than"));
        check("libvirt:", Err("write libvirt:NAME"));
        check("libvirt:///system", Err("write libvirt:NAME"));
        check("uuid:web", Err("write uuid:UUID"));
        check("uuid:00000000-0000-0000-0000-000000000000", Err("guests that have none"));
        check("libvrt:web", Err("did you mean `libvirt:`?"));
        check("QEMU:12", Ok(SystemAddress::Qemu(12)));
        check(&format!("UUID:{text}"), Ok(SystemAddress::Guest(uuid)));
        check("QMEU:12", Ok(file("QMEU:12")));
    }

    #[test]
    fn a_word_is_a_guest_only_where_no_file_has_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ram"), "").unwrap();
        let read = |text: &str| SystemAddress::read(text, folder.path()).unwrap();
        let bare = |text: &str| read(text).or_file();
        assert_eq!(bare("ram"), SystemAddress::File(folder.path().join("ram")));
        let file = folder.path().join("web-1");
        let guest = GuestName::Bare { name: "web-1".to_owned(), file };
        assert_eq!(bare("web-1"), SystemAddress::Guest(guest));
        // A path is one, even in the folder of the configuration.
        let below = folder.path().join("web-1").display().to_string();
        let explicit = ["./web-1", "a/web-1", "/web-1", "..", "-name", "file:web-1", &below];
        for path in explicit {
            assert!(matches!(bare(path), SystemAddress::File(_)), "{path}");
        }
    }

    #[test]
    fn a_word_is_written_as_before_when_its_file_appears() {
        let folder = tempfile::tempdir().unwrap();
        let before = SystemAddress::read("ram", folder.path()).unwrap();
        std::fs::write(folder.path().join("ram"), "").unwrap();
        let after = before.clone().or_file();
        assert_ne!(before, after);
        assert!(before.is_written_as(&after) && after.is_written_as(&before));
        assert!(!after.is_written_as(&file("/other")) && !before.is_written_as(&file("ram")));
    }

    #[test]
    fn a_path_may_hold_a_colon() {
        check("file:qemu:1", Ok(file("qemu:1")));
        check("./qemu:1", Ok(file("./qemu:1")));
        check("/a:b", Ok(file("/a:b")));
    }

    #[test]
    fn a_kind_of_system_without_its_colon_is_no_file() {
        let end = "for a file of that name";
        check("host", Err(&format!("has no colon; write host:, or ./host {end}")));
        check("qemu", Err(&format!("has no colon; write qemu:PID, or ./qemu {end}")));
        check("doca", Err(&format!("has no colon; write doca:DEVICE/VUID, or ./doca {end}")));
        check("./host", Ok(file("./host")));
        check("file:host", Ok(file("host")));
        check("hosts", Ok(file("hosts")));
        check("file", Ok(file("file")));
    }

    #[test]
    fn mistakes_show_the_correct_form() {
        check("", Err("names no file"));
        check("file:", Err("names no file"));
        check("qemu:", Err("write qemu:PID"));
        check("qemu:0", Err("write qemu:PID"));
        check("qemu:-1", Err("write qemu:PID"));
        check("host:me", Err("just `host:`"));
        check("doca:mlx5_0", Err("write doca:DEVICE/VUID"));
        check("doca:/x", Err("write doca:DEVICE/VUID"));
        check("doca:a/b/c", Err("write doca:DEVICE/VUID"));
        check("qmeu:12", Err("did you mean `qemu:`?"));
        check("xen:12", Err("not a kind of system"));
    }

    #[test]
    fn a_path_need_not_be_text() {
        let name = OsStr::from_bytes(b"file:/a\xff");
        let expected = PathBuf::from(OsStr::from_bytes(b"/a\xff"));
        assert_eq!(SystemAddress::from_argument(name), Ok(SystemAddress::File(expected)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(address) = SystemAddress::from_argument(OsStr::from_bytes(&bytes)) {
                prop_assert!(!address.to_string().chars().any(char::is_control));
                prop_assert!(!address.default_name().chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn an_address_is_shown_as_it_is_read() {
        let uuid = "uuid:4dea22b3-1d52-d8f3-2516-782e98ab3fa0";
        let guests = ["qemu:web-1", "qemu:guest=7", "libvirt:web-1", uuid];
        for text in guests.into_iter().chain(["file:/a", "qemu:5", "host:", "doca:d/v"]) {
            assert_eq!(SystemAddress::from_argument(OsStr::new(text)).unwrap().to_string(), text);
        }
    }
}
