//! Worlds made by chance.

use super::*;

/// A generator of numbers (xorshift), the same in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as u32
    }

    /// An index into this many rows, or a little beyond, or none.
    fn index<Row>(&mut self, rows: usize) -> Option<Index<Row>> {
        if self.below(16) == 0 { None } else { Index::new(self.below(rows + 2) as usize) }
    }
}

#[test]
fn the_search_ends_whatever_the_links() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut findings = 0;
    for _ in 0..300 {
        let mut machine = Machine::default();
        let mut files = vec![null()];
        for at in 0..4 {
            files.extend(<[FakeFile; 2]>::from(machine.pipe()));
            files.extend(<[FakeFile; 2]>::from(machine.pair()));
            files.extend(<[FakeFile; 2]>::from(machine.terminal()));
            files.push(machine.connection(40000 + at, PEER));
        }
        let shared = mappings::memory(&mut machine, 4096);
        for pid in 20..30 {
            let program = ["bash", "nc", "sshd", "python3.11"][random.below(4) as usize];
            let chosen: Vec<_> =
                (0..5).map(|_| files[random.below(files.len()) as usize].clone()).collect();
            let held: Vec<_> = (0..5).zip(&chosen).collect();
            machine.run(pid, program, program, &held);
            machine.world.process(pid).parent = 20 + random.below(10);
            for file in shared.iter().filter(|_| random.below(4) == 0) {
                mappings::map(&mut machine, pid, file, mappings::SHARED);
            }
        }
        let mut watch = Watch::new();
        findings += watch.settle(&machine).len();
        // The same with rows that refer to each other as in no kernel.
        machine.show(&mut watch.snapshot);
        let snapshot = &mut watch.snapshot;
        let (sockets, terminals) = (snapshot.sockets.len(), snapshot.terminals.len());
        for row in snapshot.sockets.iter_mut() {
            row.peer = random.index(sockets);
            row.file = random.index(files.len()).unwrap_or(row.file);
        }
        for row in snapshot.terminals.iter_mut() {
            row.link = random.index(terminals);
        }
        let (inodes, connections) = (snapshot.inodes.len(), snapshot.connections.len());
        for row in snapshot.files.iter_mut() {
            row.inode = random.index(inodes);
            row.connection = random.index(connections);
            row.socket = random.index(sockets);
            row.terminal = random.index(terminals);
        }
        let (rows, tables) = (snapshot.descriptors.len(), snapshot.files_structs.len());
        for table in snapshot.files_structs.iter_mut() {
            table.descriptors = Span::new(random.below(rows + 2), random.below(rows + 2));
        }
        let (processes, mms) = (snapshot.processes.len(), snapshot.mms.len());
        for row in snapshot.processes.iter_mut() {
            row.files = random.index(tables);
            row.mm = random.index(mms);
        }
        let areas = snapshot.vmas.len();
        for row in snapshot.mms.iter_mut() {
            row.process = random.index(processes);
            row.vmas = Span::new(random.below(areas + 2), random.below(areas + 2));
        }
        watch.check();
    }
    assert!(findings > 50, "next to nothing was found: {findings}");
}
