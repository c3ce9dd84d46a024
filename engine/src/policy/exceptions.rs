//! Exceptions: alerts that the configuration silences, because what they are about is known.
//!
//! Users of a watched machine can choose much of what an alert says of them, so nothing counts that
//! they could have chosen:
//!
//! | key | counts |
//! |---|---|
//! | path of the program | if root alone could have put the program there, or with a named container |
//! | container, image | if a runtime with root's rights made the container |
//! | address of the peer | in the network namespace of process 1, or with a named container |
//! | name, arguments | with a path or a named container |
//! | user | always |
//! | kernel module | if the kernel's list has it: root alone loads modules |
//!
//! Events are never silenced. Each silenced alert is counted.

use core::fmt::Write as _;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::{ArrayString, ArrayVec};
use panoptes_records::activities::Activity;

use super::containers::ContainerPolicy;
use crate::container_config::{ContainerNames, Glob};
use crate::detect::reverse_shells::ChainMember;
use crate::path::DELETED;
use crate::state::ScanContext;
use crate::state::facts::{ConnectionFacts, ProcessFacts};
use crate::state::process::{COMMAND_LINE_BYTES_MAX, Process};
use crate::time::RealTime;
use crate::walk::Snapshot;

/// Maximum number of exceptions: each is compared with each alert of its activity.
pub const EXCEPTIONS_MAX: usize = 256;

/// Alerts that are not written. All that is given must match.
#[derive(Clone, Debug)]
pub struct Exception {
    pub activity: Activity,
    pub process_executable_path: Option<Glob>,
    pub process_name: Option<Glob>,
    /// The real user id, in the machine's first user namespace.
    pub user_id: Option<u32>,
    /// Id, name or pod of the container.
    pub container: Option<Glob>,
    /// Name or digest of the image.
    pub image: Option<Glob>,
    /// The connection's peer.
    pub address: Option<AddressPattern>,
    /// The arguments, joined by spaces.
    pub command_line: Option<Glob>,
    /// The name of the module that owns the code of a hook.
    pub kernel_module_name: Option<Glob>,
    /// Why these alerts need no attention.
    pub reason: Box<str>,
    /// The end of the exception.
    pub until: Option<RealTime>,
}

/// Which addresses of peers match.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AddressPattern {
    /// Those that share this many of their first bits with this one.
    Network(IpAddr, u8),
    /// Those whose text matches.
    Glob(Glob),
}

/// The configured exceptions, with the number of alerts that each has silenced. All systems share
/// them.
#[derive(Debug, Default)]
pub struct Exceptions {
    rules: Box<[Rule]>,
    /// The activities that have any, a bit each.
    activities: u128,
}

const _: () = assert!(Activity::ALL.len() <= u128::BITS as usize);

#[derive(Debug)]
struct Rule {
    exception: Exception,
    silenced: AtomicU64,
}

/// The processes or the kernel module, and the connection that an alert is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct AlertSubject<'a> {
    pub(super) processes: Processes<'a>,
    pub(super) connection: Option<&'a ConnectionFacts>,
}

/// The processes that an alert is about, as far as they are known, or the kernel module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Processes<'a> {
    #[default]
    Unknown,
    Tracked(&'a Process),
    Described(&'a ProcessFacts<'a>),
    /// The processes of a reverse shell.
    Members(&'a [ChainMember<'a>]),
    /// No process, but the code of the module of this name, which the kernel's list has.
    Module(&'a str),
}

impl<'a> Processes<'a> {
    /// The process that an alert is about: of a reverse shell, the interpreter.
    pub(super) fn last(self, cx: &ScanContext<'a>) -> Option<ProcessFacts<'a>> {
        match self {
            Self::Unknown | Self::Module(_) => None,
            Self::Tracked(process) => Some(process.facts(cx.strings)),
            Self::Described(facts) => Some(*facts),
            Self::Members(members) => members.last().map(|member| member.process),
        }
    }
}

/// The peer of a connection.
#[derive(Clone, Copy, Debug)]
struct Peer {
    address: IpAddr,
    /// Whether the connection is in the network namespace of process 1: in one of their own, users
    /// choose all addresses.
    is_machines: bool,
}

impl Peer {
    fn of(snapshot: &Snapshot, facts: &ConnectionFacts) -> Self {
        let machines = snapshot.init().map_or(0, |init| snapshot.net_number(init.net));
        let is_machines = machines != 0 && facts.network_namespace == machines;
        Self { address: facts.destination.to_canonical(), is_machines }
    }
}

impl AddressPattern {
    fn matches(&self, address: IpAddr) -> bool {
        match self {
            Self::Glob(glob) => {
                let mut text = ArrayString::<ADDRESS_BYTES_MAX>::new();
                write!(text, "{address}").is_ok() && glob.matches(text.as_bytes())
            }
            Self::Network(network, prefix) => {
                let (bits, other, width) = match (network, address) {
                    (IpAddr::V4(one), IpAddr::V4(other)) => {
                        (one.to_bits().into(), u128::from(other.to_bits()), 32)
                    }
                    (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
                    _ => return false,
                };
                let rest = u32::saturating_sub(width, u32::from(*prefix));
                (bits ^ other).checked_shr(rest).unwrap_or(0) == 0
            }
        }
    }
}

/// Maximum length of an address as text, in bytes.
const ADDRESS_BYTES_MAX: usize = 64;

impl Exception {
    /// Whether it names the containers of its processes.
    const fn names_container(&self) -> bool {
        self.container.is_some() || self.image.is_some()
    }

    /// Whether all of its keys can count. Names and arguments, which any process can choose, count
    /// only together with a program's path or a container.
    pub const fn can_apply(&self) -> bool {
        let is_chosen = self.process_name.is_some() || self.command_line.is_some();
        !is_chosen || self.process_executable_path.is_some() || self.names_container()
    }

    /// Whether it covers a process, which is in this container of root's, a connection and a kernel
    /// module.
    fn covers(
        &self,
        process: Option<&ProcessFacts<'_>>,
        container: Option<&ContainerNames<'_>>,
        (peer, module): (Option<Peer>, Option<&str>),
    ) -> bool {
        let is_named = self.names_container();
        self.can_apply()
            && fits(self.container.as_ref(), |glob| {
                container.is_some_and(|names| glob.means_container(names))
            })
            && fits(self.image.as_ref(), |glob| {
                container.is_some_and(|names| glob.means_image(&names.image))
            })
            && fits(self.process_executable_path.as_ref(), |glob| {
                process.is_some_and(|process| {
                    (process.executable_is_roots || is_named) && is_path(glob, process.executable)
                })
            })
            && fits(self.process_name.as_ref(), |glob| {
                process.is_some_and(|process| glob.matches(process.name))
            })
            && fits(self.user_id.as_ref(), |&uid| {
                process.is_some_and(|it| it.numbers.ids.is_some_and(|ids| ids.uid == uid))
            })
            && fits(self.address.as_ref(), |pattern| {
                peer.is_some_and(|peer| {
                    (peer.is_machines || is_named) && pattern.matches(peer.address)
                })
            })
            && fits(self.command_line.as_ref(), |glob| {
                process.is_some_and(|process| is_command_line(glob, process))
            })
            && fits(self.kernel_module_name.as_ref(), |glob| {
                module.is_some_and(|module| glob.matches(module.as_bytes()))
            })
    }
}

/// Whether a key matches, if it is given.
fn fits<T>(key: Option<&T>, matches: impl FnOnce(&T) -> bool) -> bool {
    key.is_none_or(matches)
}

fn is_path(glob: &Glob, path: Option<&[u8]>) -> bool {
    path.is_some_and(|path| {
        glob.matches(path) || path.strip_suffix(DELETED).is_some_and(|path| glob.matches(path))
    })
}

/// Whether a pattern matches arguments as records show them: joined by spaces.
fn is_command_line(glob: &Glob, process: &ProcessFacts<'_>) -> bool {
    let Some(line) = process.command_line else { return false };
    let joined = line.strip_suffix(b"\0").unwrap_or(line);
    let joined = joined.iter().map(|&byte| if byte == 0 { b' ' } else { byte });
    let joined: ArrayVec<u8, COMMAND_LINE_BYTES_MAX> =
        joined.take(COMMAND_LINE_BYTES_MAX).collect();
    // Nothing is known of what follows the beginning of a longer line.
    let is_cut = process.command_line_cut || line.len() > COMMAND_LINE_BYTES_MAX;
    (!is_cut || glob.is_open()) && glob.matches(&joined)
}

impl Exceptions {
    /// Those beyond [`EXCEPTIONS_MAX`] are left out.
    pub fn new(exceptions: impl IntoIterator<Item = Exception>) -> Self {
        let rule = |exception| Rule { exception, silenced: AtomicU64::new(0) };
        let rules: Box<[Rule]> = exceptions.into_iter().take(EXCEPTIONS_MAX).map(rule).collect();
        let activities =
            rules.iter().fold(0, |bits, rule| bits | 1 << rule.exception.activity as u32);
        Self { rules, activities }
    }

    /// Each exception, in the order of the configuration, with the number of alerts that it has
    /// silenced.
    pub fn counts(&self) -> impl Iterator<Item = (&Exception, u64)> {
        let count = |rule: &Rule| rule.silenced.load(Ordering::Relaxed);
        self.rules.iter().map(move |rule| (&rule.exception, count(rule)))
    }

    const fn has(&self, activity: Activity) -> bool {
        self.activities & 1 << activity as u32 != 0
    }

    /// Whether one of them covers an alert about these processes, this connection and this module.
    /// The first one counts it.
    pub(super) fn silences(
        &self,
        cx: &ScanContext<'_>,
        activity: Activity,
        about: AlertSubject<'_>,
        containers: &mut ContainerPolicy,
    ) -> bool {
        if !self.has(activity) {
            return false;
        }
        let peer = about.connection.map(|facts| Peer::of(cx.snapshot, facts));
        let mut covers = |exception: &Exception, process: &ProcessFacts<'_>| {
            let is_asked = exception.names_container() && process.container_is_roots;
            let names = if is_asked { containers.names_of(cx, process) } else { None };
            exception.covers(Some(process), names.as_ref(), (peer, None))
        };
        let found = self.rules.iter().find(|Rule { exception, .. }| {
            exception.activity == activity
                && exception.until.is_none_or(|until| cx.now.real.ns() < until.ns())
                && match about.processes {
                    Processes::Unknown => exception.covers(None, None, (peer, None)),
                    Processes::Module(name) => exception.covers(None, None, (peer, Some(name))),
                    Processes::Tracked(process) => covers(exception, &process.facts(cx.strings)),
                    Processes::Described(facts) => covers(exception, facts),
                    Processes::Members(members) => {
                        members.iter().any(|member| covers(exception, &member.process))
                    }
                }
        });
        if let Some(rule) = found {
            rule.silenced.fetch_add(1, Ordering::Relaxed);
        }
        found.is_some()
    }
}
