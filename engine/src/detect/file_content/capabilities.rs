//! Programs with capabilities of their own (`setcap`).
//!
//! They are an extended attribute, which memory seldom has. What shows is what they give: exec adds
//! them to the permitted ones of the process, and to no ambient ones (`cap_bprm_creds_from_file`,
//! security/commoncap.c). Without them, exec leaves a user who is not root what is ambient. So a
//! user's process has further ones for these reasons:
//!
//! * Its program has them, or is set-uid.
//! * It was root when it began its program, and has kept them (`PR_SET_KEEPCAPS`).
//! * It was forked by such a process.
//!
//! Exec itself leaves what decides it in the auxiliary vector, on the new stack: the user at that
//! time, and `AT_SECURE` if the program got more than the user had. Where that cannot be read, a
//! parent of the same user that lacks them decides.
//!
//! Only programs whose inode was changed since watching started count, as for set-uid ones. Those
//! that have given the same capabilities before do not: `chmod` changes the inode, too. So the
//! other programs are looked at as well, as far as there is room.

use arrayvec::ArrayVec;
use panoptes_decoders::address::UserVa;
use panoptes_decoders::kernel::inode::Attributes;

use super::FileContent;
use super::paths::is_set_id;
use crate::detect::DetectorContext;
use crate::state::process::Process;
use crate::walk::{FileRow, Index, ProcessRow, Snapshot};

/// Number of processes that are looked at in one scan.
const LOOKED_MAX: usize = 16;
/// Number of them that may be of programs which have not changed.
const UNCHANGED_MAX: usize = LOOKED_MAX / 2;
/// How much of a stack is read: arguments and environment of up to 180 pointers, and the vector.
const STACK_BYTES: u32 = 2048;
/// Keys of the auxiliary vector (include/uapi/linux/auxvec.h), in the order in which
/// `create_elf_tables` (fs/binfmt_elf.c) writes these.
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_SECURE: u64 = 23;

/// Folders of the system, where packages put programs.
const FOLDERS: &[&[u8]] = &[b"/bin/", b"/sbin/", b"/usr/bin/", b"/usr/lib", b"/usr/sbin/"];
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const IPC_LOCK: u64 = 1 << 14;
const SYS_NICE: u64 = 1 << 23;
const WAKE_ALARM: u64 = 1 << 35;
/// Programs that distributions ship with capabilities, and which.
const SHIPPED: &[(&[u8], u64)] = &[
    (b"arping", NET_RAW),
    (b"clockdiff", NET_RAW),
    (b"dumpcap", NET_RAW | NET_ADMIN),
    (b"fping", NET_RAW),
    (b"gamescope", SYS_NICE),
    (b"gnome-keyring-daemon", IPC_LOCK),
    (b"gst-ptp-helper", NET_BIND_SERVICE | NET_ADMIN | SYS_NICE),
    (b"ksgrd_network_helper", NET_RAW),
    (b"kwin_wayland", SYS_NICE),
    (b"mtr-packet", NET_RAW),
    (b"newgidmap", SETGID),
    (b"newuidmap", SETUID),
    (b"noping", NET_RAW),
    (b"oping", NET_RAW),
    (b"org_kde_powerdevil", WAKE_ALARM),
    (b"ping", NET_RAW | NET_ADMIN),
    (b"pinger", NET_RAW),
    (b"suexec", SETUID | SETGID),
    (b"sway", SYS_NICE),
];

/// The processes of a scan that began a program and have capabilities.
pub(super) type CapableProcesses = ArrayVec<Index<ProcessRow>, LOOKED_MAX>;

/// What exec has left on the stack of a program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct AtExec {
    uid: u64,
    euid: u64,
    is_secure: bool,
}

impl AtExec {
    /// Finds it at the beginning of a stack of 64-bit words.
    fn find(stack: &[u8]) -> Option<Self> {
        const KEYS: [u64; 5] = [AT_UID, AT_EUID, AT_GID, AT_EGID, AT_SECURE];
        let word = |bytes: &[u8], at: usize| {
            let word = bytes.get(8 * at..).and_then(|rest| rest.first_chunk().copied());
            u64::from_le_bytes(word.unwrap_or_default())
        };
        let bytes = 16 * KEYS.len();
        let is_here = |part: &&[u8]| (0..KEYS.len()).all(|at| word(part, 2 * at) == KEYS[at]);
        let here = stack.windows(bytes).step_by(8).find(is_here)?;
        let [uid, euid, secure] = [1, 3, 9].map(|at| word(here, at));
        Some(Self { uid, euid, is_secure: secure != 0 })
    }

    /// Whether a program that is not set-uid got capabilities by itself.
    const fn is_gain(self) -> bool {
        self.is_secure && self.uid != 0 && self.euid != 0
    }
}

impl FileContent {
    /// Notes a process that begins to run a program, if it has capabilities that are not ambient.
    pub(super) fn note_capabilities(&mut self, snapshot: &Snapshot, process: &Process) {
        let Some(index) = process.row() else { return };
        let row = &snapshot.processes[index];
        let further = further_capabilities(snapshot, row);
        // A container has mounts of its own. Its name alone tells nothing: any user may give a
        // control group the name of a container's.
        if further == 0 || !snapshot.shares_first_mounts(row) {
            return;
        }
        let Some(program) = program(snapshot, row) else { return };
        if is_set_id(program.mode) || self.paths.has_given(program, further) {
            return;
        }
        let is_changed = self.paths.may_have_new_capabilities(program);
        let room = if is_changed { LOOKED_MAX } else { UNCHANGED_MAX };
        if self.looked.len() < room {
            self.looked.push(index);
        } else if is_changed {
            self.lost.add(1, Some(process.process_id()));
        }
    }

    /// Looks at the processes that were noted in this scan.
    pub(super) fn look_at_capabilities(&mut self, context: &mut DetectorContext<'_>) {
        if self.looked.is_empty() {
            return;
        }
        let looked = core::mem::take(&mut self.looked);
        let (snapshot, kernel) = (context.cx.snapshot, context.memory.kernel);
        self.reader.forget_translations();
        self.reader.clear();
        let mut objects: ArrayVec<Option<u32>, LOOKED_MAX> = ArrayVec::new();
        for &index in &looked {
            let mm = snapshot.mms.at(snapshot.processes[index].mm);
            let (pgd, stack) = mm.map_or_else(<_>::default, |mm| (mm.pgd, mm.start_stack));
            let root = kernel.space.linear(pgd).unwrap_or_default();
            let levels = kernel.space.levels;
            objects.push(self.reader.push_user(levels, root, UserVa(stack), STACK_BYTES));
        }
        self.reader.run(context.memory.source, kernel.space.levels);
        for (&index, object) in looked.iter().zip(objects) {
            let stack = object.and_then(|object| self.reader.object(object as usize));
            let row = &snapshot.processes[index];
            let further = further_capabilities(snapshot, row);
            let gained = match stack.and_then(AtExec::find) {
                Some(at_exec) if at_exec.is_gain() => further,
                _ => further & !inherited_capabilities(snapshot, row),
            };
            let Some(program) = program(snapshot, row).filter(|_| gained != 0) else { continue };
            if self.paths.may_have_new_capabilities(program) {
                self.take_program(context.cx, row, gained);
            } else {
                self.paths.note_given(program, gained);
            }
        }
    }
}

/// The executable file of a process.
pub(super) fn executable<'a>(snapshot: &'a Snapshot, row: &ProcessRow) -> Option<&'a FileRow> {
    snapshot.files.at(snapshot.mms.at(row.mm)?.exe_file)
}

/// The attributes of that file.
fn program<'a>(snapshot: &'a Snapshot, row: &ProcessRow) -> Option<&'a Attributes> {
    Some(&snapshot.inodes.at(executable(snapshot, row)?.inode)?.attributes)
}

/// The capabilities of a user's process that are not ambient.
fn further_capabilities(snapshot: &Snapshot, row: &ProcessRow) -> u64 {
    let set = snapshot.capabilities_of(row).unwrap_or_default();
    set.permitted & !set.ambient
}

/// The capabilities that a process may have from its parent: all, unless that is another program of
/// the same user and has others.
fn inherited_capabilities(snapshot: &Snapshot, row: &ProcessRow) -> u64 {
    let of_user = |parent: &ProcessRow| {
        let users = [row.ids?, parent.ids?].map(|ids| [ids.uid, ids.euid]);
        let [[uid, ..], _] = users;
        let is_same_user = users.as_flattened().iter().all(|it| *it == uid);
        let [own, other] = [row, parent].map(|row| executable(snapshot, row).map(|it| it.inode));
        let set = snapshot.capabilities_of(parent)?;
        (is_same_user && own? != other?).then_some(set.permitted)
    };
    snapshot.process_by_pid(row.parent_pid).and_then(of_user).unwrap_or(u64::MAX)
}

/// Whether a program is one that distributions ship with these capabilities.
pub(super) fn is_shipped(path: &[u8], capabilities: u64) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    FOLDERS.iter().any(|folder| path.starts_with(folder))
        && SHIPPED.iter().any(|(it, all)| *it == name && capabilities & !all == 0)
}

#[cfg(test)]
mod tests;
