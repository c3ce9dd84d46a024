//! Systems that are named by their guests.

use super::*;

#[test]
fn a_system_without_an_address_is_the_guest_of_its_name() {
    let configuration = good(
        "systems:\n\
         \x20 web-1: {limits: {processes: 5}}\n\
         \x20 db:\n\
         \x20 '4711': {}\n\
         \x20 libvirt:mail: {}\n\
         \x20 qemu:12: {}\n",
    );
    let addresses = configuration.systems.iter().map(|system| system.address.to_string());
    let expected = ["qemu:web-1", "qemu:db", "qemu:guest=4711", "libvirt:mail", "qemu:12"];
    assert_eq!(addresses.collect::<Vec<_>>(), expected);
    assert_eq!(configuration.systems[0].settings.limits.processes, 5);
    check(
        "systems: {/a: {}}",
        &["1:15: `systems./a.system` is missing, and the system's name is not that of a guest: \
             it \
           is a path"],
    );
    check(
        "systems: {web-1: qemu:4711}",
        &["1:18: `systems.web-1` must be a mapping of keys to values, not a single value; write \
           `web-1: {system: qemu:4711}`"],
    );
    check(
        "systems: {web-1: [a]}",
        &["1:18: `systems.web-1` must be a mapping of keys to values, not a list"],
    );
}
