//! What an alert is about, so far as a repetition has the same: its cause.
//!
//! Two alerts have the same cause only if a reader would take the second for the first once more.
//! So a cause has what the act is about, and `repetitions` adds whose it is. What an attacker
//! changes from one act to the next, such as process ids and ephemeral ports, is no part of it.
//! Everything that makes the act another one is: another file, another peer, another program,
//! another user. Of what was written to a file, the content is no part: `last_contents` keeps that
//! of the last alert, and the sum has it. A change of a file may also be one of many that an act
//! makes: then the act is a second cause.

use core::hash::{Hash as _, Hasher as _};
use core::mem;
use core::net::IpAddr;
use std::hash::DefaultHasher;

use panoptes_tables::{HashKey, Key};

use crate::detect::binary_attestation::Alert;
use crate::detect::binary_attestation::verdict::FileFault;
use crate::detect::file_content::ContentChange;
use crate::detect::file_content::important::rule_of;
use crate::detect::file_content::paths::{PathChange, PermissionChange};
use crate::detect::hidden_connections::{HiddenConnection, HiddenConnectionKind};
use crate::detect::memory_permissions::JudgedAreaChange;
use crate::detect::memory_permissions::rule::FindingKind;
use crate::detect::reverse_shells::{ConnectionEnd, ReverseShell};
use crate::detect::shell_history::{HistoryChange, HistoryEvent};
use crate::kernel_code::{CodeNames, Violation};
use crate::state::bpf::BpfProgramFacts;
use crate::state::facts::{ConnectionFacts, FileName, ProcessFacts};
use crate::state::modules::ModuleFacts;
use crate::state::{ExceededThreshold, ScanContext};
use crate::walk::Views;

/// Files that no process is known to have changed were changed by one act if that was in the same
/// part of the time, so long.
const ACT_NS: i64 = 10_000_000_000;

/// A keyed hash of a cause's parts, in their order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause {
    key: HashKey,
    hash: u64,
}

impl Cause {
    pub(super) const fn new(key: HashKey) -> Self {
        Self { key, hash: 0 }
    }

    pub(super) const fn hash(self) -> u64 {
        self.hash
    }

    #[must_use]
    pub(super) fn number(self, number: impl Into<u64>) -> Self {
        Self { hash: self.key.hash_numbers([self.hash, number.into()]), ..self }
    }

    /// The hash of the key of a table.
    pub(super) fn of_key(self, key: &impl Key) -> u64 {
        key.hash(self.key)
    }

    #[must_use]
    pub(super) fn text(self, text: &[u8]) -> Self {
        self.number(self.key.hash(text))
    }

    /// Which variant of an enum a value is, without its fields.
    #[must_use]
    fn variant<T>(self, value: &T) -> Self {
        let mut hasher = DefaultHasher::new();
        mem::discriminant(value).hash(&mut hasher);
        self.number(hasher.finish())
    }

    #[must_use]
    fn address(self, address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => self.text(&address.octets()),
            IpAddr::V6(address) => self.text(&address.octets()),
        }
    }

    /// The program that a process runs.
    #[must_use]
    fn program(self, process: &ProcessFacts<'_>) -> Self {
        self.text(process.executable.unwrap_or(process.name))
            .number(process.executable_size.unwrap_or(0))
    }
}

/// A number for what a path named before its change: nothing, another file, or the same one.
fn before_of(change: &PathChange<'_>) -> u64 {
    change.before.map_or(0, |before| 1 + u64::from(before.is_same_file))
}

/// The causes of the alerts, each without whose it is.
impl Cause {
    /// The file by its inode and content, the role that it has, and what is wrong with it. A memfd
    /// has an inode of its own each time, so it is known by name and content.
    pub(super) fn of_attestation(self, alert: &Alert<'_>) -> Self {
        let file = &alert.file;
        let cause = self.variant(&alert.role).variant(&alert.finding.wrong);
        let cause = match file.hashes {
            Some(hashes) => cause.text(&hashes.sha256),
            None => cause.number(file.size).number(file.change_time_ns.cast_unsigned()),
        };
        let path = file.path.unwrap_or_default();
        let cause = match file.hashes {
            Some(_) if file.is_memfd => cause.text(path),
            _ => cause.text(path).number(file.device).number(file.number),
        };
        match alert.finding.wrong {
            FileFault::Arguments { .. } => {
                cause.text(alert.process.command_line.unwrap_or_default())
            }
            FileFault::Foreign { .. } | FileFault::Elsewhere { .. } => cause,
        }
    }

    /// The program, what became executable or no longer is, and its permissions before and now.
    pub(super) fn of_permissions(
        self,
        cx: &ScanContext<'_>,
        judged: &JudgedAreaChange<'_>,
        what: FindingKind,
    ) -> Self {
        let cause = self.variant(&what).variant(&judged.direction);
        let cause = cause.variant(&judged.backing).number(judged.area.flags);
        let before = judged.before.map_or(0, |before| before.flags);
        let cause = cause.number(before).text(judged.area.file.unwrap_or_default());
        cause.program(&judged.process.facts(cx.strings))
    }

    /// The file by its name, and the program that wrote it.
    pub(super) fn of_content(self, change: &ContentChange<'_>) -> Self {
        let cause = self.program(&change.process);
        let cause = cause.number(change.descriptor.inode.map_or(0, |inode| inode.device));
        match change.descriptor.name {
            Some(FileName::Text(name)) => cause.text(name),
            Some(FileName::Numbered(..)) | None => {
                cause.number(change.descriptor.inode.map_or(0, |inode| inode.number))
            }
        }
    }

    /// The path and its filesystem, whether it was there before, how a history has lost its
    /// content, and the other new names.
    pub(super) fn of_path(self, change: &PathChange<'_>) -> Self {
        let cause = self.text(change.path).number(change.device).number(before_of(change));
        let cause = cause.number(change.history.map_or(0, |loss| 1 + loss as u64));
        let others = &change.others;
        let paths = others.paths.iter().filter_map(|&path| Some(others.strings?.get(path)));
        paths.fold(cause.number(others.count as u64), Self::text)
    }

    /// What one act has in common that changes many files, each of which has a cause of its own:
    /// the program, the process that has started it, and the pattern by which the files matter.
    pub(super) fn of_contents(self, change: &ContentChange<'_>) -> Option<Self> {
        let Some(FileName::Text(name)) = change.descriptor.name else { return None };
        let parent = change.process.numbers.parent_process_id.get();
        Some(self.program(&change.process).number(parent.unwrap_or(0)).number(rule_of(name)?))
    }

    /// The same where no process is known: the time and the file's owner take its place.
    pub(super) fn of_paths(self, change: &PathChange<'_>) -> Option<Self> {
        let rule = rule_of(change.path).filter(|_| change.history.is_none())?;
        let time = change.attributes.ctime_ns.div_euclid(ACT_NS);
        let cause = self.number(rule).number(before_of(change)).number(time.cast_unsigned());
        Some(cause.number(change.attributes.uid))
    }

    /// The path and its filesystem, what it gives, and the permissions. Users make as many programs
    /// of their own as they like: all of one user are one cause.
    pub(super) fn of_access(self, change: &PermissionChange<'_>) -> Self {
        if change.user.is_some() {
            let owner = 1_u64 << u32::BITS | u64::from(change.attributes.uid);
            return self.variant(&change.what).number(owner);
        }
        let cause = self.text(change.path).number(change.device).variant(&change.what);
        cause.number(change.attributes.mode)
    }

    /// The peers of input and output without their ports, the reason, and the programs on the way.
    pub(super) fn of_shell(self, finding: &ReverseShell<'_>) -> Self {
        let (peer, protocol) = match &finding.end {
            ConnectionEnd::Connection(facts) => (facts.destination, facts.protocol),
            ConnectionEnd::Datagram(ends, protocol) => (ends.destination, *protocol),
        };
        let cause = self.variant(&finding.reason).variant(&finding.direction);
        let cause = cause.address(peer).number(protocol).number(finding.is_tunnel);
        let cause = match &finding.out_end {
            Some(ConnectionEnd::Connection(facts)) => cause.address(facts.destination),
            Some(ConnectionEnd::Datagram(ends, _)) => cause.address(ends.destination),
            None => cause,
        };
        let programs = finding.members.iter().map(|member| &member.process);
        programs.fold(cause, |cause, process| cause.program(process))
    }

    /// How the history was cleared or is off, by which value, and the shell's program.
    pub(super) fn of_history(self, event: &HistoryEvent<'_>) -> Self {
        let cause = self.program(&event.process).variant(&event.change);
        match &event.change {
            HistoryChange::Cleared(clearing) => cause.variant(clearing),
            HistoryChange::Disabled { way, was_on, value } => {
                cause.variant(way).number(*was_on).text(value)
            }
            HistoryChange::Executed(_) => cause,
        }
    }

    /// The threshold, the peer without its port, and the program that holds the connection.
    pub(super) fn of_threshold(
        self,
        facts: &ConnectionFacts,
        exceeded: &ExceededThreshold,
        process: Option<&ProcessFacts<'_>>,
    ) -> Self {
        let cause = self.variant(exceeded).address(facts.destination);
        process.map_or(cause, |process| cause.program(process))
    }

    /// The program and its name, and the views that do not show it.
    pub(super) fn of_hidden(self, process: &ProcessFacts<'_>, missing: Views) -> Self {
        self.program(process).text(process.name).number(missing.0)
    }

    /// The module by its name and build id, and the views that do not show it.
    pub(super) fn of_module(self, module: &ModuleFacts) -> Self {
        self.text(module.name()).text(module.build_id.bytes()).number(module.missing.0)
    }

    /// The check, the place with what it belongs to, the function that is hooked, and the owner of
    /// the code.
    pub(super) fn of_code(self, violation: &Violation, names: &CodeNames) -> Self {
        let cause = self.variant(&violation.check).number(violation.place.0);
        let cause = cause.text(violation.label.as_bytes()).number(violation.function.0);
        cause.variant(&violation.owner).text(names.module.as_bytes())
    }

    /// The program by its name, its instructions' tag and its type, and its helpers if they are
    /// what the alert is about.
    pub(super) fn of_ebpf_program(self, program: &BpfProgramFacts, is_dangerous: bool) -> Self {
        let helpers = if is_dangerous { program.helpers.0 } else { 0 };
        let cause = self.text(program.name()).text(&program.tag);
        cause.number(program.kind).number(helpers)
    }

    /// What the packets are of: a port of this machine; or two machines, and the lower of their
    /// ports, for the other one is often an ephemeral port.
    pub(super) fn of_packets(self, hidden: &HiddenConnection) -> Self {
        let cause = self.number(hidden.protocol).address(hidden.own.ip());
        match hidden.what {
            HiddenConnectionKind::Listener => cause.number(hidden.own.port()),
            HiddenConnectionKind::Connection => {
                let port = hidden.own.port().min(hidden.peer.port());
                cause.address(hidden.peer.ip()).number(port)
            }
        }
    }

    /// Which clock or count was tampered with.
    pub(super) fn of_clock(self, is_of_forks: bool) -> Self {
        self.number(is_of_forks)
    }
}
