//! A process's attributes, kept while a detector decides something about it: the process may have
//! ended by then.

use super::container::ContainerKey;
use super::facts::ProcessFacts;
use crate::page_cache::Hashes;
use crate::walk::Ids;
use panoptes_tables::{StringId, Strings};

/// A process as it was described at one time, with names in the caller's arena.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeptProcess {
    name: [u8; 16],
    name_length: u8,
    process_id: u32,
    self_exec_id: Option<u32>,
    executable: Option<StringId>,
    executable_size: Option<u64>,
    executable_hashes: Option<Hashes>,
    directory: Option<StringId>,
    command_line: Option<StringId>,
    command_line_cut: bool,
    creation_time_ns: Option<i64>,
    parent_process_id: Option<u32>,
    ids: Option<Ids>,
    state: Option<(u32, u32)>,
    cpu_time_ns: Option<u64>,
    pid_namespace: u32,
    mount_namespace: u32,
    network_namespace: u32,
    container: Option<StringId>,
    container_key: Option<ContainerKey>,
}

impl KeptProcess {
    /// Keeps the facts about a process. Names that find no room are left out.
    pub(crate) fn new(facts: &ProcessFacts<'_>, strings: &mut Strings) -> Self {
        let mut keep = |text: Option<&[u8]>| text.and_then(|text| strings.intern(text));
        let mut name = [0; 16];
        let length = facts.name.len().min(name.len());
        name[..length].copy_from_slice(&facts.name[..length]);
        Self {
            name,
            name_length: length as u8,
            process_id: facts.process_id,
            self_exec_id: facts.self_exec_id,
            executable: keep(facts.executable),
            executable_size: facts.executable_size,
            executable_hashes: facts.executable_hashes,
            directory: keep(facts.directory),
            command_line: keep(facts.command_line),
            command_line_cut: facts.command_line_cut,
            creation_time_ns: facts.creation_time_ns,
            parent_process_id: facts.parent_process_id,
            ids: facts.ids,
            state: facts.state,
            cpu_time_ns: facts.cpu_time_ns,
            pid_namespace: facts.pid_namespace,
            mount_namespace: facts.mount_namespace,
            network_namespace: facts.network_namespace,
            container: keep(facts.container),
            container_key: facts.container_key,
        }
    }

    pub(crate) fn facts<'a>(&'a self, strings: &'a Strings) -> ProcessFacts<'a> {
        let text = |id: Option<StringId>| id.map(|id| strings.get(id));
        ProcessFacts {
            name: self.name.get(..usize::from(self.name_length)).unwrap_or(&[]),
            process_id: self.process_id,
            self_exec_id: self.self_exec_id,
            executable: text(self.executable),
            executable_size: self.executable_size,
            executable_hashes: self.executable_hashes,
            directory: text(self.directory),
            command_line: text(self.command_line),
            command_line_cut: self.command_line_cut,
            creation_time_ns: self.creation_time_ns,
            parent_process_id: self.parent_process_id,
            ids: self.ids,
            state: self.state,
            cpu_time_ns: self.cpu_time_ns,
            pid_namespace: self.pid_namespace,
            mount_namespace: self.mount_namespace,
            network_namespace: self.network_namespace,
            container: text(self.container),
            container_key: self.container_key,
        }
    }

    /// Releases its names.
    pub(crate) fn release(&self, strings: &mut Strings) {
        let names = [self.executable, self.directory, self.command_line, self.container];
        for id in names.into_iter().flatten() {
            strings.release(id);
        }
    }
}
