//! Programs that the dynamic loader was given as an argument.

use super::*;

/// The findings if the loader was started with this command line, on a connection.
fn loaded(line: &'static str) -> Vec<String> {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let descriptors = [(0, &tcp), (1, &tcp), (2, &tcp)];
    machine.run(20, "ld-linux-x86-64.so.2", line, &descriptors);
    Watch::new().settle(&machine)
}

#[test]
fn a_shell_that_the_loader_starts_is_a_shell() {
    let reported = ["Outbound 40000: 20 in 20 out 20"];
    assert_eq!(loaded("/lib64/ld-linux-x86-64.so.2 /bin/bash"), reported);
    assert_eq!(loaded("ld.so --argv0 x /usr/bin/python3 -i"), reported);
    assert_eq!(loaded("ld.so /bin/cat"), [""; 0]);
    assert_eq!(loaded("ld.so /usr/bin/python3 x.py"), [""; 0]);
}
