//! Permissions and owners of files and of the folders of the system.
//!
//! Each path in [`KnownPaths`](super::known::KnownPaths) has the permissions of its first sight, or
//! those of the last record about its file. Others are a change, which waits like one of a content.
//! A record about the content has the permissions, too:
//!
//! * A record of a content is made 150 ms after the change at the earliest, with the permissions of
//!   that time. `install` and `cp -p` have set them by then, so one act is one record.
//! * A file that has become set-uid since that record is a change of its own.
//! * Further changes within [`MOTION_NS`] of the last change of the content belong to that.
//!
//! A file whose path was not known is set-uid since watching started if its change time tells so.
//! A rename sets that time, too: files that another path names with such a mode are no change.

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_records::activities::Severity;
use panoptes_tables::Strings;

use super::super::rules::ContentRules;
use super::known::{DentryPlace, FileOwner, PathTarget};
use super::pending::PendingPathChange;
use super::sweep::SweptName;
use super::{Judge, PENDING_MAX, Paths};
use crate::time::RealTime;

/// `S_ISUID`, `S_ISGID`, `S_ISVTX`, `S_IWOTH` and `S_IXGRP` (include/uapi/linux/stat.h).
const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const STICKY: u16 = 0o1000;
const OTHERS_WRITE: u16 = 0o002;
const GROUP_EXECUTES: u16 = 0o010;
/// How long after a change of a file's content its permissions are still set.
const MOTION_NS: i64 = 2_000_000_000;
/// Folders of the system with up to so many slashes in their paths are always known.
const SHALLOW_SLASHES: usize = 3;
/// Programs that distributions ship set-uid or set-gid. Where it is not known what their mode was
/// before, they probably had it already.
const SHIPPED_SET_ID: &[&[u8]] = &[
    b"Xorg.wrap",
    b"at",
    b"bwrap",
    b"cardctl",
    b"chage",
    b"chfn",
    b"chkpwd",
    b"chrome-sandbox",
    b"chsh",
    b"crontab",
    b"dbus-daemon-launch-helper",
    b"dotlockfile",
    b"exim4",
    b"expiry",
    b"fusermount",
    b"fusermount3",
    b"gpasswd",
    b"kismet_capture",
    b"locate",
    b"lockfile",
    b"mlocate",
    b"mount",
    b"mount.cifs",
    b"mount.nfs",
    b"mount.nfs4",
    b"newgidmap",
    b"newgrp",
    b"newuidmap",
    b"ntfs-3g",
    b"pam_timestamp_check",
    b"passwd",
    b"ping",
    b"ping6",
    b"pkexec",
    b"plocate",
    b"polkit-agent-helper-1",
    b"postdrop",
    b"postqueue",
    b"pppd",
    b"procmail",
    b"sg",
    b"snap-confine",
    b"ssh-agent",
    b"ssh-keysign",
    b"su",
    b"sudo",
    b"sudoedit",
    b"traceroute6.iputils",
    b"umount",
    b"unix_chkpwd",
    b"userhelper",
    b"usernetctl",
    b"utempter",
    b"wall",
    b"write",
    b"write.ul",
];

/// A file or folder with other permissions, or another owner, than before.
#[derive(Clone, Copy, Debug)]
pub struct PermissionChange<'a> {
    pub path: &'a [u8],
    /// The path by which the change was found first, if the file was renamed since.
    pub previous: Option<&'a [u8]>,
    /// As it is now.
    pub attributes: Attributes,
    /// Device of its filesystem, as the kernel encodes it.
    pub device: u32,
    /// What it was before; `None` if it was not known.
    pub before: Option<AccessBefore>,
    pub what: GrantedAccess,
    /// The user whose own file it is, in a folder where users have their files; a block of 65,536
    /// ids counts as one user.
    pub user: Option<u32>,
    /// When the change was seen.
    pub since_ns: RealTime,
    /// The severity that the configuration sets for this path.
    pub severity: Option<Severity>,
}

/// What a path named before a change of permissions.
#[derive(Clone, Copy, Debug)]
pub struct AccessBefore {
    pub number: u64,
    /// The mode without the type.
    pub permissions: u16,
    /// If it is known.
    pub owner: Option<FileOwner>,
}

/// What a change of permissions gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GrantedAccess {
    /// Every user who starts the program gets the rights of its owner.
    SetUid,
    /// Every user who starts the program gets the rights of its group.
    SetGid,
    /// A user who starts the program gets these capabilities.
    Capabilities(u64),
    /// Anyone may replace what is in the folder.
    OpenFolder,
    /// Nothing of these.
    Other,
}

/// What becomes of a name that a sweep has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SweptNameOutcome {
    /// Nothing has changed that is to be reported.
    Nothing,
    /// A change waits.
    Waits,
    /// The next sweep decides.
    Left,
}

impl SweptNameOutcome {
    /// The outcome of a change that found room to wait, or did not.
    pub(super) const fn of_wait(has_room: bool) -> Self {
        if has_room { Self::Waits } else { Self::Left }
    }
}

/// Whether a file with these permissions runs with the rights of its owner, or of its group. A
/// set-gid file that its group may not execute is one with mandatory locks.
pub const fn set_ids(permissions: u16) -> (bool, bool) {
    let gid = SET_GID | GROUP_EXECUTES;
    (permissions & SET_UID != 0, permissions & gid == gid)
}

/// Whether a file runs with the rights of another one than who starts it.
pub fn is_set_id(permissions: u16) -> bool {
    set_ids(permissions) != (false, false)
}

/// Whether a file has become set-uid or set-gid.
fn gains_set_id(before: u16, now: u16) -> bool {
    let ((uid_before, gid_before), (uid, gid)) = (set_ids(before), set_ids(now));
    uid && !uid_before || gid && !gid_before
}

/// Whether anyone may replace what is in a folder with these permissions.
const fn is_open(permissions: u16) -> bool {
    permissions & OTHERS_WRITE != 0 && permissions & STICKY == 0
}

fn is_folder(attributes: &Attributes) -> bool {
    attributes.kind() == mode::S_IFDIR
}

impl Judge<'_> {
    /// Decides about a file whose content has not changed. `None` as `before`: its path was not
    /// known.
    pub(super) fn judge_access(
        &mut self,
        found: &SweptName<'_>,
        before: Option<PathTarget>,
        named: &PathTarget,
    ) -> SweptNameOutcome {
        if found.attributes.kind() != mode::S_IFREG || self.starting.is_some() {
            return SweptNameOutcome::Nothing;
        }
        let gains = before.map_or_else(
            || is_set_id(named.permissions),
            |before| gains_set_id(before.permissions, named.permissions),
        );
        if gains {
            return self.judge_set_id(found, before, named);
        }
        let differs = before
            .is_some_and(|before| before.is_same_file(named) && before.has_other_access(named));
        if differs && !is_in_motion(found.attributes) && self.matters(found) {
            return SweptNameOutcome::of_wait(self.wait_with_access(found, before));
        }
        SweptNameOutcome::Nothing
    }

    /// Decides about a file that seems to have become set-uid or set-gid.
    fn judge_set_id(
        &mut self,
        found: &SweptName<'_>,
        before: Option<PathTarget>,
        named: &PathTarget,
    ) -> SweptNameOutcome {
        let is_same = before.is_some_and(|before| before.is_same_file(named));
        if self.rules.is_excluded(found.path) || !is_same && !self.is_recent(found) {
            return SweptNameOutcome::Nothing;
        }
        if before.is_none() {
            match self.has_had_set_id(found, named) {
                None => return SweptNameOutcome::Left,
                Some(true) => return SweptNameOutcome::Nothing,
                Some(false) => {}
            }
        }
        SweptNameOutcome::of_wait(self.wait_with_access(found, before))
    }

    /// Whether a file was set-uid or set-gid already, under another path; `None` if only the next
    /// sweep can tell.
    fn has_had_set_id(&mut self, found: &SweptName<'_>, named: &PathTarget) -> Option<bool> {
        if self.reported.has(found.attributes) {
            return Some(true);
        }
        let had = |other: &PathTarget| {
            other.is_same_file(named) && !gains_set_id(other.permissions, named.permissions)
        };
        // Another file may have its path by now.
        if self.pending.iter().filter_map(|pending| pending.before).any(|before| had(&before)) {
            return Some(true);
        }
        if !self.known.may_have(named.number) {
            return Some(false);
        }
        self.searches_left = self.searches_left.checked_sub(1)?;
        Some(self.known.any(had))
    }

    /// Compares the permissions of a folder of the system with those of before.
    pub(super) fn take_folder(&mut self, found: &SweptName<'_>) {
        // Folders are not read by their addresses: each new name changes their times.
        let place = DentryPlace::UNKNOWN;
        let mut named = self.known.named(found.path, found.attributes);
        let before = self.known.get(found.path, place);
        let becomes_open =
            is_open(named.permissions) && before.is_none_or(|before| !is_open(before.permissions));
        let has_changed = match before {
            Some(before) if before.is_same_file(&named) => before.has_other_access(&named),
            Some(_) => becomes_open,
            // A new name in it sets both times, and a change of its mode only one.
            None => {
                becomes_open
                    && self.is_recent(found)
                    && !self.reported.has(found.attributes)
                    && found.attributes.ctime_ns != found.attributes.mtime_ns
            }
        };
        let waits = has_changed && self.starting.is_none() && !self.rules.is_excluded(found.path);
        if waits {
            if !self.wait_with_access(found, before) {
                *self.has_left = true;
                return;
            }
            named = as_reported(named, before);
        }
        let slashes = memchr::memchr_iter(b'/', found.path).count();
        let is_noted = waits || is_open(named.permissions) || slashes <= SHALLOW_SLASHES;
        if before.is_some() || is_noted {
            self.known.set(found.path, named, Some(place));
        }
    }

    /// Lets a change of permissions wait. A known path of a file whose change waits under another
    /// one is a second name of it.
    fn wait_with_access(&mut self, found: &SweptName<'_>, before: Option<PathTarget>) -> bool {
        let inode = (found.inode, found.attributes.ino);
        if before.is_some() && self.pending.iter().any(|pending| pending.is_of(inode)) {
            return true;
        }
        self.wait(found, before, false)
    }
}

/// The state of a path that is noted while a change of it waits: with the permissions that were
/// reported.
pub(super) fn as_reported(named: PathTarget, before: Option<PathTarget>) -> PathTarget {
    if let Some(before) = before {
        return named.with_access_of(&before);
    }
    let new = if is_set_id(named.permissions) { SET_UID | SET_GID } else { OTHERS_WRITE };
    PathTarget { permissions: named.permissions & !new, ..named }
}

/// Whether a file's content was changed so shortly before its permissions that both are one act.
fn is_in_motion(attributes: &Attributes) -> bool {
    let since = attributes.ctime_ns.saturating_sub(attributes.mtime_ns);
    (0..=MOTION_NS).contains(&since)
}

impl PendingPathChange {
    /// What the change gives.
    fn access(&self) -> GrantedAccess {
        let now = self.attributes.mode;
        let before = self.before.as_ref().map_or(0, |before| before.permissions);
        if self.is_folder() {
            return if is_open(now) && !is_open(before) {
                GrantedAccess::OpenFolder
            } else {
                GrantedAccess::Other
            };
        }
        if self.capabilities != 0 {
            return GrantedAccess::Capabilities(self.capabilities);
        }
        let (had_uid, had_gid) = set_ids(before);
        match set_ids(now) {
            (true, _) if !had_uid => GrantedAccess::SetUid,
            (_, true) if !had_gid => GrantedAccess::SetGid,
            _ => GrantedAccess::Other,
        }
    }

    pub(super) fn is_folder(&self) -> bool {
        is_folder(&self.attributes)
    }

    /// Whether a sweep that does not know its path would find these permissions again.
    fn is_to_remember(&self) -> bool {
        let permissions = self.attributes.mode;
        if self.is_folder() { is_open(permissions) } else { is_set_id(permissions) }
    }

    /// Whether it is a change of permissions that gives rights to others, at a path that is not
    /// excluded.
    pub(super) fn gives_rights(&self, rules: &ContentRules, path: &[u8]) -> bool {
        let may_give = !self.is_content || self.capabilities != 0;
        may_give && self.access() != GrantedAccess::Other && !rules.is_excluded(path)
    }

    /// Whether the file is one that distributions ship set-uid, and its mode was not known.
    fn is_probably_old(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        self.before.is_none()
            && self.capabilities == 0
            && !is_in_motion(&self.attributes)
            && SHIPPED_SET_ID.contains(&name)
    }

    /// Makes it one of permissions if its content was reported, and not that it is set-uid.
    pub(in super::super) fn turns_to_permissions(&mut self) -> bool {
        let is = self.named();
        let reported =
            self.reported.map(|(permissions, owner)| PathTarget { permissions, owner, ..is });
        let lacks = |was: &PathTarget| gains_set_id(was.permissions, is.permissions);
        let reported = reported.filter(|was| self.is_content && self.is_regular() && lacks(was));
        if reported.is_some() {
            (self.is_content, self.before) = (false, reported);
        }
        reported.is_some()
    }

    /// Whether a change of permissions needs no record any more: another one shows them, or they
    /// are as before again.
    pub(in super::super) fn is_reported(&self) -> bool {
        let is = self.named();
        let is_back = |was: &PathTarget| was.is_same_file(&is) && !was.has_other_access(&is);
        let reported =
            self.reported.map(|(permissions, owner)| PathTarget { permissions, owner, ..is });
        self.capabilities == 0 && [reported, self.before].iter().flatten().any(is_back)
    }

    /// What its path names, with the owner.
    fn named(&self) -> PathTarget {
        PathTarget { owner: self.owner, ..PathTarget::of(&self.attributes) }
    }
}

impl Paths {
    /// Notes which permissions and owners of the files of changes were reported.
    pub(super) fn compare_reported(&mut self, strings: &Strings) {
        for pending in &mut self.pending {
            let named = self.known.named(strings.get(pending.path), &pending.attributes);
            pending.owner = named.owner;
            let known = self.known.peek(pending.path_hash).filter(|it| it.is_same_file(&named));
            pending.reported = known.map(|known| (known.permissions, known.owner));
        }
    }

    /// Notes that the permissions of changes that have ended were reported.
    pub(super) fn note_reported(&mut self) {
        let mut files = ArrayVec::<PathTarget, PENDING_MAX>::new();
        for pending in self.pending.iter().filter(|pending| pending.has_ended) {
            files.push(pending.named());
            if pending.is_to_remember() {
                self.reported.note(&pending.attributes);
            }
            if pending.capabilities != 0 {
                self.reported.note_capabilities(&pending.attributes);
                self.reported.note_given(&pending.attributes, pending.capabilities);
            }
        }
        if !files.is_empty() {
            files.sort_unstable_by_key(|file| file.number);
            self.known.note_access(&files);
        }
    }

    /// The changes that wait.
    pub(in super::super) fn waiting(&self) -> &[PendingPathChange] {
        &self.pending
    }

    /// Ends the change at a place.
    pub(in super::super) fn end(&mut self, at: usize) {
        self.pending[at].end();
    }

    /// The change of permissions that a change is, for its record.
    pub(in super::super) fn access_change<'a>(
        &self,
        pending: &'a PendingPathChange,
        strings: &'a Strings,
        severity: Option<Severity>,
    ) -> PermissionChange<'a> {
        let path = strings.get(pending.path);
        let what =
            if pending.is_probably_old(path) { GrantedAccess::Other } else { pending.access() };
        PermissionChange {
            path,
            previous: pending.previous(strings),
            attributes: pending.attributes,
            device: pending.device.unwrap_or_default(),
            before: pending.before.map(|before| AccessBefore {
                number: before.number,
                permissions: before.permissions,
                owner: self.known.owner(before.owner),
            }),
            what,
            user: pending.user,
            since_ns: pending.since(),
            severity,
        }
    }
}
