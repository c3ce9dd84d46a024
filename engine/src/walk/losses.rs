//! What a scan could not read, by kind.

/// The kinds of objects that a scan may fail to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScanPart {
    Tasks,
    Pids,
    Processes,
    Namespaces,
    ControlGroups,
    AddressSpaces,
    MemoryAreas,
    DescriptorTables,
    Files,
    Sockets,
    Interfaces,
}

impl ScanPart {
    /// All of them, with the words for one and for several.
    pub const ALL: [(Self, [&'static str; 2]); 11] = [
        (Self::Tasks, ["task", "tasks"]),
        (Self::Pids, ["entry of the pid tree", "entries of the pid tree"]),
        (Self::Processes, ["structure of a process", "structures of processes"]),
        (Self::Namespaces, ["namespace", "namespaces"]),
        (Self::ControlGroups, ["control group", "control groups"]),
        (Self::AddressSpaces, ["address space", "address spaces"]),
        (Self::MemoryAreas, ["memory area", "memory areas"]),
        (Self::DescriptorTables, ["descriptor table", "descriptor tables"]),
        (Self::Files, ["file or name", "files or names"]),
        (Self::Sockets, ["socket", "sockets"]),
        (Self::Interfaces, ["interface", "interfaces"]),
    ];
}

/// Numbers of objects that a scan could not read or had no room for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Objects that a list or table names but that could not be read.
    pub unreadable: u32,
    /// Lists or trees that did not end within their bound.
    pub unbounded: u32,
    pub dropped: u32,
    /// A process that led to more objects than others, if some were dropped for that.
    pub process_id: Option<u32>,
    /// Attributes that are not resident (user memory swapped out or never touched).
    pub not_resident: u32,
    pub(crate) unreadable_by: [u32; ScanPart::ALL.len()],
    pub(crate) unbounded_by: [u32; ScanPart::ALL.len()],
}

impl Losses {
    /// Counts objects that could not be read.
    pub(super) const fn miss(&mut self, part: ScanPart, count: u32) {
        self.unreadable = self.unreadable.saturating_add(count);
        let of_part = &mut self.unreadable_by[part as usize];
        *of_part = of_part.saturating_add(count);
    }

    /// Counts lists or trees that did not end within their bound.
    pub(super) const fn cut(&mut self, part: ScanPart, count: u32) {
        self.unbounded = self.unbounded.saturating_add(count);
        let of_part = &mut self.unbounded_by[part as usize];
        *of_part = of_part.saturating_add(count);
    }

    /// How many objects of a kind could not be read, and how many of their lists did not end.
    pub const fn of(&self, part: ScanPart) -> (u32, u32) {
        (self.unreadable_by[part as usize], self.unbounded_by[part as usize])
    }
}
