//! The attacks: each has a row in [`ATTACKS`] and a function, which runs beside the watcher.
//!
//! A function builds its cover, calls [`Hostile::act`] once, and keeps the cover up until
//! [`Hostile::goes_on`] returns `false`.

mod areas;
mod descriptors;
mod file;
mod kernel;
mod names;
mod network;
mod processes;

use crate::hostile::Hostile;
use crate::plants::Kind;

/// One attack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attack {
    /// A letter and a number, by which attacks are known.
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    /// What it hides.
    pub(crate) hides: Kind,
    /// A record that it must cause, beside what shows the hidden act.
    pub(crate) causes: Option<&'static str>,
    /// Losses that may stand for the act without a name, since nobody can be named for them: the
    /// process to blame is not known, or not read at all. All others must name the act's process.
    pub(crate) unnamed: &'static [&'static str],
    pub(crate) run: fn(&mut Hostile<'_>),
}

const fn attack(
    id: &'static str,
    name: &'static str,
    hides: Kind,
    run: fn(&mut Hostile<'_>),
) -> Attack {
    Attack { id, name, hides, causes: None, unnamed: &[], run }
}

/// The measure without an attack: the hostile system only acts.
pub(crate) const ALONE: Attack = attack("alone", "no attack", Kind::ReverseShell, |host| {
    host.act();
    host.rest_on();
});

use Kind::{ChangedFile, ForeignBinary, HiddenProcess, ReverseShell, WrittenCode};

/// All attacks.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        causes: Some("events_summed_up"),
        ..attack("A1", "60,000 files opened and closed", ReverseShell, descriptors::flood)
    },
    attack("A2", "58,000 objects to be scanned", ReverseShell, processes::many),
    attack("A3", "memory that is taken and given back", ReverseShell, file::shrinks),
    attack("B1.1", "forks with 60,000 descriptors", ReverseShell, descriptors::forks),
    attack("B1.3", "33,000 sparse executable maps", ForeignBinary, areas::sparse_maps),
    attack("B2", "128 sparse descriptor tables", ReverseShell, descriptors::sparse_tables),
    Attack {
        // What cannot be read are entries of the list that are no tasks: no process has them. The
        // list of all processes is spoilt, so a process that it lacks cannot be told.
        unnamed: &["coverage_degraded unreadable"],
        ..attack("B3.1", "a crafted list of 16,384 tasks", HiddenProcess, kernel::task_list)
    },
    attack("B3.2", "a TCP chain of 60,000 sockets", ReverseShell, kernel::tcp_chain),
    attack("B3.3", "a file 4,000 directories deep", ForeignBinary, names::deep_directories),
    attack("C1", "170,000 duplicated descriptors", ReverseShell, descriptors::duplicates),
    attack("C2", "descriptor table replaced again and again", ForeignBinary, descriptors::unshared),
    attack("C3", "a scope named like a container", ForeignBinary, processes::fake_container),
    attack("C4", "1,400 names of 4 KiB", ForeignBinary, names::long_names),
    attack("C5", "33,000 libraries wait for hashes", ForeignBinary, areas::waiting_files),
    attack("C6", "4,096 sleeping processes", ForeignBinary, processes::sleepers),
    Attack {
        causes: Some("clock_tampered"),
        ..attack("C7", "a clock that stands still", ReverseShell, kernel::stopped_clock)
    },
    attack("C8", "fork count set back: contact lost", ReverseShell, kernel::lost_contact),
    attack("C9", "areas that churn", ForeignBinary, areas::churn),
    attack("C10", "500 decoy shells on 100,000 pipes", ReverseShell, processes::decoys),
    attack("C11", "3,000 files written and closed", ChangedFile, descriptors::closes),
    attack("C12", "90,000 sockets in TIME_WAIT", ReverseShell, network::time_wait),
    attack("C13", "code in space reserved as by a runtime", WrittenCode, areas::reserved),
    attack("C14", "300,000 areas", ForeignBinary, areas::many),
    attack("C15", "a descriptor table shared and not", ReverseShell, descriptors::toggled),
];

/// Attacks that no synthetic machine in a file can run, and what shows them instead.
pub(crate) const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "A4",
        "failed hardware, and more mapped ranges than have room",
        "tests of engine/sources: sigbus.rs, mapping.rs, mapped/tests.rs",
    ),
    ("A5", "a DMA device that does not answer", "engine/sources/tests/doca.rs"),
];

/// The attacks with one of these ids; all without ids.
pub(crate) fn chosen(ids: &[String]) -> Result<Vec<Attack>, String> {
    if let Some(unknown) = ids.iter().find(|id| ATTACKS.iter().all(|attack| !attack.is(id))) {
        let known: Vec<_> = ATTACKS.iter().map(|attack| attack.id).collect();
        return Err(format!("no attack is called {unknown}; there are {}", known.join(", ")));
    }
    let is_chosen = |attack: &&Attack| ids.is_empty() || ids.iter().any(|id| attack.is(id));
    Ok(ATTACKS.iter().filter(is_chosen).copied().collect())
}

impl Attack {
    /// Whether it is called so: `B1` is each of `B1.1` and `B1.3`.
    fn is(&self, id: &str) -> bool {
        let rest = self.id.strip_prefix(&id.to_uppercase());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use std::thread;

    use super::*;
    use crate::hostile::Signals;
    use crate::phase::STACK_BYTES;

    #[test]
    fn every_attack_builds_its_cover_and_acts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for attack in ATTACKS {
            let signals = Signals::default();
            let mut host =
                Hostile::boot(folder.path(), attack.hides, &signals).expect("the folder has room");
            host.act_only();
            let acts = thread::scope(|scope| {
                let builder = thread::Builder::new().stack_size(STACK_BYTES);
                let run = builder.spawn_scoped(scope, || {
                    (attack.run)(&mut host);
                    host.act.take()
                });
                run.expect("a thread starts").join().unwrap_or_else(|_| panic!("{}", attack.id))
            });
            let act = acts.unwrap_or_else(|| panic!("{} does not act", attack.id));
            assert_eq!(act.kind, attack.hides, "{}", attack.id);
        }
    }

    #[test]
    fn attacks_are_chosen_by_id_or_group() {
        let ids = |wanted: &[&str]| -> Vec<&str> {
            let wanted: Vec<_> = wanted.iter().map(|&id| id.to_owned()).collect();
            chosen(&wanted).expect("all exist").iter().map(|attack| attack.id).collect()
        };
        assert_eq!(ids(&["a1"]), ["A1"]);
        assert_eq!(ids(&["B1", "C1"]), ["B1.1", "B1.3", "C1"]);
        assert_eq!(ids(&[]).len(), ATTACKS.len());
        assert!(chosen(&["D9".to_owned()]).is_err());
        let distinct: HashSet<_> = ids(&[]).into_iter().collect();
        assert_eq!(distinct.len(), ATTACKS.len());
    }
}
