//! Connections that a ring holds without a descriptor.

use super::*;
use crate::walk::{RING_SLOT, RingRow};

/// Makes a ring of each process's descriptors with the mark of a slot.
pub(super) fn put_rings(snapshot: &mut Snapshot) {
    for process in snapshot.processes.indexes() {
        let Some(table) = snapshot.processes[process].files else { continue };
        let all = snapshot.files_structs[table].descriptors;
        let rows = snapshot.descriptors.range(all);
        let own = rows.iter().take_while(|row| row.index < RING_SLOT).count();
        if let Some(file) = rows.get(own).and_then(|row| row.file) {
            let descriptors = all.skip(own);
            snapshot.files_structs[table].descriptors = all.take(own);
            let (process, table) = (Some(process), Some(table));
            let row = RingRow { file, context: KernelVa(1), process, table, descriptors };
            snapshot.rings.row_of(u64::from(row.file.number()), || row);
        }
    }
    snapshot.sort_rings();
}

/// A relay with two pipes to its shell, and its connection at a descriptor of this number.
fn relay(number: u32) -> Machine {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (commands, to_shell) = machine.pipe();
    let (from_shell, answers) = machine.pipe();
    machine.run(20, "relay", "./relay", &[(3, &from_shell), (4, &to_shell), (number, &tcp)]);
    machine.run(21, "dash", "sh", &[(0, &commands), (1, &answers), (2, &answers)]);
    machine
}

#[test]
fn a_connection_in_a_ring_leads_to_the_peer() {
    let expected = ["Outbound 40000: 20,21 in 20>21 out 21>20"];
    assert_eq!(Watch::new().settle(&relay(7)), expected, "at a descriptor");
    assert_eq!(Watch::new().settle(&relay(RING_SLOT + 7)), expected, "in a slot");
}

#[test]
fn a_ring_of_another_process_leads_nowhere() {
    let mut machine = relay(9);
    let mut processes = machine.world.processes.iter_mut();
    let relay = processes.find(|process| process.pid == 20).unwrap();
    let tcp = relay.files.pop().unwrap().1;
    machine.run(22, "server", "./server", &[(RING_SLOT, &tcp)]);
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}
