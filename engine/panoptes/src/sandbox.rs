//! What the threads of the service may still do, so that a bug in one of them gives an attacker
//! little: capabilities, and system calls ([`filter`]).
//!
//! [`give_up_capabilities`] leaves the process what its sources need. Threads inherit that from the
//! control thread: workers attach to guests with it. The others call [`Role::enter`] and keep less.
//! The auditor of flows does the same by [`keep_those_of_flows`].
//!
//! Nothing here stops the service. Where the kernel or a container refuses, a debug line says it.

mod filter;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use caps::{CapSet, Capability, CapsHashSet};

use crate::config::{Flows, System, SystemAddress};
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// What everything but the sources needs: logs and sockets that another user owns, locked memory,
/// and a port below 1024 for metrics.
const SERVICE: [Capability; 4] = [
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_IPC_LOCK,
    Capability::CAP_NET_BIND_SERVICE,
];
/// Files of memory that another user owns, and whether somebody writes them (a lease).
const FILES: [Capability; 2] = [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_LEASE];
/// Seeing and reading processes of other users, and the files that they have mapped.
const GUESTS: [Capability; 2] = [Capability::CAP_SYS_PTRACE, Capability::CAP_CHECKPOINT_RESTORE];
/// /proc/kcore.
const HOST: [Capability; 2] = [Capability::CAP_SYS_RAWIO, Capability::CAP_DAC_READ_SEARCH];

/// What a thread does, and so what it needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// Reads memory that workers have opened.
    Scanner {
        /// Whether NVIDIA's library may run on the thread. Its needs are not known.
        has_dma: bool,
    },
    /// Writes, rotates and syncs logs, and connects to receivers.
    Writer,
    /// Answers requests for metrics.
    Metrics,
    /// Sends records of flows to clients that connect.
    Clients,
    /// Reads packets, and opens interfaces again that come back.
    Packets {
        /// Whether there are interfaces, or only ports to which packets are mirrored.
        from_interfaces: bool,
        /// Whether one of them is received by XDP.
        by_xdp: bool,
    },
    /// Reads captures, and writes what they have.
    Captures {
        /// Whether it opens files, which may be another user's.
        from_files: bool,
    },
}

impl Role {
    /// Restricts the present thread, and the threads that it starts, to what this role needs.
    pub(crate) fn enter(self, messages: &Messages) {
        if let Some(kept) = self.capabilities() {
            note(messages, "capabilities of a thread", restrict(&kept));
        }
        note(messages, "system calls of a thread", filter::install(self));
    }

    /// The capabilities that it keeps; `None` for all.
    fn capabilities(self) -> Option<CapsHashSet> {
        Some(match self {
            Self::Scanner { has_dma: true } => return None,
            // Its memory for scans is locked when it is made.
            Self::Scanner { has_dma: false } => CapsHashSet::from([Capability::CAP_IPC_LOCK]),
            Self::Writer => {
                CapsHashSet::from([Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER])
            }
            Self::Metrics
            | Self::Clients
            | Self::Captures { from_files: false }
            | Self::Packets { from_interfaces: false, .. } => CapsHashSet::new(),
            Self::Captures { from_files: true } => {
                CapsHashSet::from([Capability::CAP_DAC_READ_SEARCH])
            }
            Self::Packets { from_interfaces: true, by_xdp } => interfaces(by_xdp).collect(),
        })
    }
}

/// What opening an interface takes. The memory of XDP's packets is locked: beyond RLIMIT_MEMLOCK,
/// only with CAP_IPC_LOCK (`xdp_umem_account_pages`, net/xdp/xdp_umem.c).
fn interfaces(by_xdp: bool) -> impl Iterator<Item = Capability> {
    let with_xdp = [Capability::CAP_NET_ADMIN, Capability::CAP_BPF, Capability::CAP_IPC_LOCK];
    [Capability::CAP_NET_RAW].into_iter().chain(with_xdp.into_iter().filter(move |_| by_xdp))
}

/// Gives up the capabilities that neither the packets of `role` nor the outputs of flows nor the
/// system beside them need. Another user than the one that started the program has none for files.
///
/// Call it before any thread starts.
pub(crate) fn keep_those_of_flows(
    role: Role,
    beside: Option<&System>,
    is_other_user: bool,
    messages: &Messages,
) {
    let mut kept = match beside.map(|system| needed(std::slice::from_ref(system), false)) {
        _ if is_other_user => CapsHashSet::new(),
        None => CapsHashSet::from([Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER]),
        Some(Some(kept)) => kept,
        Some(None) => return messages.debug("all capabilities are kept for NVIDIA's library"),
    };
    let of_role = role.capabilities().unwrap_or_default();
    let may_keep = |one: &Capability| !is_other_user || *one != Capability::CAP_DAC_READ_SEARCH;
    kept.extend(of_role.into_iter().filter(may_keep));
    // Changing the user leaves nothing in effect.
    if let Ok(permitted) = caps::read(None, CapSet::Permitted) {
        let effective = permitted.intersection(&kept).copied().collect();
        note(messages, "capabilities", caps::set(None, CapSet::Effective, &effective));
    }
    note(messages, "capabilities", restrict(&kept));
}

/// Changes the user by `change`, which leaves the present thread what it is permitted.
pub(crate) fn keep_capabilities<T>(change: impl FnOnce() -> T) -> T {
    // Where it is refused, the user has no capabilities afterwards.
    let _ = caps::securebits::set_keepcaps(true);
    let changed = change();
    let _ = caps::securebits::set_keepcaps(false);
    changed
}

/// Whether NVIDIA's library reads one of these systems.
pub(crate) fn have_dma(systems: &[System]) -> bool {
    systems.iter().any(|system| matches!(system.address, SystemAddress::Doca { .. }))
}

/// What the process had when it was started, and does not have any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenUp {
    capabilities: CapsHashSet,
    /// Whether scanners are restricted, so that NVIDIA's library can't run on them.
    dma: bool,
}

impl GivenUp {
    /// `has_dma`: whether NVIDIA's library may run on scanners.
    pub(crate) fn with_dma(self, has_dma: bool) -> Self {
        Self { dma: !has_dma, ..self }
    }

    /// Refuses systems that need what was given up.
    ///
    /// # Errors
    ///
    /// The message names the first such system.
    pub(crate) fn check(&self, systems: &[System], auto_scan: bool) -> Result<(), Failure> {
        let lacks = |systems: &[System], auto_scan| match needed(systems, auto_scan) {
            Some(needed) => !self.capabilities.is_disjoint(&needed),
            None => self.dma,
        };
        let system = systems.iter().find(|system| lacks(std::slice::from_ref(*system), false));
        let key = match system {
            Some(system) => format!("systems.{}", system.name),
            None if lacks(&[], auto_scan) => "auto_scan".to_owned(),
            None => return Ok(()),
        };
        Err(lacking(&key))
    }

    /// The same for the sensor of flows. Ports of mirrors need no capability.
    pub(crate) fn check_flows(&self, flows: &Flows) -> Result<(), Failure> {
        let mut lacks = interfaces(false).filter(|one| self.capabilities.contains(one));
        if flows.have_interfaces() && lacks.next().is_some() {
            Err(lacking("flows"))
        } else {
            Ok(())
        }
    }
}

/// The failure for a key whose source needs what was given up.
fn lacking(key: &str) -> Failure {
    let message = format!(
        "{key}: it needs capabilities that the service gave up at its start; restart the service"
    );
    Failure::new(Exit::Permission, message)
}

/// What the process reads, now or later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a> {
    pub systems: &'a [System],
    pub auto_scan: bool,
    /// Whether NVIDIA's library may read a system.
    pub has_dma: bool,
    pub flows: &'a Flows,
}

/// Gives up the capabilities that no source needs, and returns them. Sources that need them later
/// are refused. Call it before any thread starts.
pub(crate) fn give_up_capabilities(sources: Sources<'_>, messages: &Messages) -> GivenUp {
    let kept = needed(sources.systems, sources.auto_scan).filter(|_| !sources.has_dma);
    let Some(mut kept) = kept else {
        messages.debug("all capabilities are kept for NVIDIA's library");
        return GivenUp::default();
    };
    if sources.flows.have_interfaces() {
        kept.extend(interfaces(false));
    }
    let permitted = || caps::read(None, CapSet::Permitted).unwrap_or_default();
    let before = permitted();
    for capability in caps::runtime::thread_all_supported().difference(&kept) {
        // Only with CAP_SETPCAP. It matters for programs that are executed, of which there are
        // none.
        let _ = caps::drop(None, CapSet::Bounding, *capability);
    }
    note(messages, "capabilities", restrict(&kept));
    let capabilities = before.difference(&permitted()).copied().collect();
    GivenUp { capabilities, ..GivenUp::default() }
}

/// Keeps, of the present thread's capabilities, what opening outputs takes: it attaches nothing.
pub(crate) fn keep_those_of_outputs(messages: &Messages) {
    note(messages, "capabilities of a thread", restrict(&CapsHashSet::from(SERVICE)));
}

/// The same, and what reading the configuration takes: interfaces for flows are opened then.
pub(crate) fn keep_those_of_loader(messages: &Messages) {
    let kept = SERVICE.into_iter().chain(interfaces(false)).collect();
    note(messages, "capabilities of a thread", restrict(&kept));
}

/// Gives up all capabilities of the present thread: it has all that it needs.
pub(crate) fn keep_none(messages: &Messages) {
    note(messages, "capabilities of a thread", restrict(&CapsHashSet::new()));
}

/// The capabilities that the service needs for these systems; `None` for all.
fn needed(systems: &[System], auto_scan: bool) -> Option<CapsHashSet> {
    if have_dma(systems) {
        return None;
    }
    let mut kept = CapsHashSet::from(SERVICE);
    if auto_scan {
        kept.extend(guests());
    }
    for system in systems {
        match system.address {
            SystemAddress::Qemu(_) | SystemAddress::Guest(_) => kept.extend(guests()),
            SystemAddress::File(_) => kept.extend(FILES),
            SystemAddress::Host => kept.extend(HOST),
            SystemAddress::Doca { .. } => return None,
        }
    }
    Some(kept)
}

/// What guests of this machine take.
fn guests() -> impl Iterator<Item = Capability> {
    // Before 5.9, opening mapped files takes CAP_SYS_ADMIN.
    let known = caps::runtime::thread_all_supported();
    let is_old = !known.contains(&Capability::CAP_CHECKPOINT_RESTORE);
    let instead = is_old.then_some(Capability::CAP_SYS_ADMIN);
    GUESTS.into_iter().chain(FILES).chain(instead)
}

/// Keeps those of the present thread's capabilities that are among these.
fn restrict(kept: &CapsHashSet) -> Result<(), caps::errors::CapsError> {
    // A thread can raise again what is permitted, so that goes last: each set contains the former.
    caps::clear(None, CapSet::Inheritable)?;
    for set in [CapSet::Effective, CapSet::Permitted] {
        let present = caps::read(None, set)?;
        caps::set(None, set, &present.intersection(kept).copied().collect())?;
    }
    Ok(())
}

fn note<E: Display>(messages: &Messages, what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        messages.debug(format_args!("the {what} are not restricted: {error}"));
    }
}
