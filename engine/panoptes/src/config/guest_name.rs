//! The name of a guest, in place of its process id: `qemu:NAME`, `libvirt:NAME`, `uuid:UUID`, or a
//! bare name where no file has it.
//!
//! Not for: which guest has a name (`guests`).

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::problem::printable;
use super::value::Setting as _;

/// The name of a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GuestName {
    /// What the guest's process calls it, or its tool.
    Claimed(String),
    /// The name of libvirt's domain: libvirt has to know the process.
    Libvirt(String),
    /// The UUID that the guest has.
    Uuid(Uuid),
    /// A bare word: this file, if it is there, or else the guest of this name.
    Bare { name: String, file: PathBuf },
}

impl GuestName {
    /// Reads what follows `qemu:`. The error completes "`text` …".
    pub(super) fn claimed(text: &[u8]) -> Result<Self, String> {
        let name = text.strip_prefix(b"guest=").unwrap_or(text);
        // A number is a process id, and a name with a dash is an option in the wrong place.
        let is_name = !name.is_empty()
            && (name.len() < text.len() || !name.iter().all(u8::is_ascii_digit))
            && !name.starts_with(b"-");
        if !is_name {
            return Err(
                "names no process; write qemu:PID with a process id, or qemu:NAME with the \
                        name of a guest"
                    .to_owned(),
            );
        }
        Self::text(name).map(Self::Claimed)
    }

    /// Reads what follows `libvirt:`.
    pub(super) fn libvirt(text: &[u8]) -> Result<Self, String> {
        if text.is_empty() || text.starts_with(b"/") {
            return Err("names no domain; write libvirt:NAME, as `virsh list` shows it".to_owned());
        }
        Self::text(text).map(Self::Libvirt)
    }

    /// Reads what follows `uuid:`.
    pub(super) fn uuid(text: &[u8]) -> Result<Self, String> {
        let uuid = std::str::from_utf8(text).ok().and_then(|text| Uuid::try_parse(text).ok());
        match uuid {
            Some(uuid) if uuid.is_nil() => {
                Err("is the UUID of guests that have none; write the guest's name".to_owned())
            }
            Some(uuid) => Ok(Self::Uuid(uuid)),
            None => {
                Err("is not a UUID; write uuid:UUID, as `panoptes systems` shows it".to_owned())
            }
        }
    }

    /// What a bare word names: `file`, or else a guest; `None` if it can only be a path.
    pub(crate) fn bare(text: &OsStr, file: &Path) -> Option<Self> {
        let name = text.to_str()?;
        let is_path = name.contains('/') || matches!(name, "." | "..");
        let name = Self::text(name.as_bytes()).ok().filter(|_| !is_path);
        let name = name.filter(|name| !name.starts_with('-'))?;
        Some(Self::Bare { name, file: file.to_owned() })
    }

    fn text(bytes: &[u8]) -> Result<String, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
        String::read(text, Path::new(""))
    }

    /// The name itself, without what precedes it.
    pub(crate) fn short(&self) -> String {
        match self {
            Self::Claimed(name) | Self::Libvirt(name) | Self::Bare { name, .. } => name.clone(),
            Self::Uuid(_) => self.to_string(),
        }
    }
}

impl fmt::Display for GuestName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claimed(name) if name.bytes().all(|byte| byte.is_ascii_digit()) => {
                write!(out, "qemu:guest={}", printable(name))
            }
            Self::Claimed(name) => write!(out, "qemu:{}", printable(name)),
            Self::Libvirt(name) => write!(out, "libvirt:{}", printable(name)),
            Self::Uuid(uuid) => write!(out, "uuid:{}", uuid.hyphenated()),
            Self::Bare { name, .. } => out.write_str(&printable(name)),
        }
    }
}
