//! Attacks by root, who writes to the kernel's memory.

use std::time::Duration;

use panoptes_decoders::address::KernelVa;

use crate::hostile::Hostile;

/// Links `count` objects of `stride` bytes: the list node of each, at `offset`, leads to the next
/// one. Returns the addresses of the first and the last node.
fn chain(host: &mut Hostile<'_>, count: u64, stride: u64, offset: u64) -> (KernelVa, KernelVa) {
    let bytes = count * stride + offset + 4096;
    let memory = host.machine().memory();
    let first = memory.allocate(u32::try_from(bytes).expect("a chain fits the memory"));
    let node = |number: u64| first.plus(number * stride + offset);
    for number in 0..count - 1 {
        memory.put_word(node(number), node(number + 1).0);
    }
    (node(0), node(count - 1))
}

/// B3.1: 16,384 tasks that overlap are in the task list.
pub(super) fn task_list(host: &mut Hostile<'_>) {
    let layouts = host.machine().layouts();
    let offset = u64::from(layouts.task_struct.tasks.offset);
    let (first, last) = chain(host, 16_384, 64, offset);
    let init = host.machine().process(0).task.plus(offset);
    let memory = host.machine().memory();
    let next = memory.word(init);
    memory.put_word(last, next);
    memory.put_word(init, first.0);
    host.act();
    host.rest_on();
}

/// B3.2: one bucket of connections has 60,000 sockets.
pub(super) fn tcp_chain(host: &mut Hostile<'_>) {
    let layouts = host.machine().layouts();
    let offset = u64::from(layouts.sock_common.skc_node.offset);
    let (first, last) = chain(host, 60_000, 256, offset);
    let hashinfo = host.machine().symbol("tcp_hashinfo").expect("the kernel has TCP");
    let memory = host.machine().memory();
    let bucket = KernelVa(memory.get(hashinfo, layouts.inet_hashinfo.ehash));
    let end = memory.word(bucket);
    memory.put_word(last, end);
    memory.put_word(bucket, first.0);
    host.act();
    host.rest_on();
}

/// C7: the clock stands still while processes run.
pub(super) fn stopped_clock(host: &mut Hostile<'_>) {
    let pids = [host.busy(), host.busy(), host.busy()];
    host.stop_clock();
    let mut steps = 0;
    while host.goes_on() {
        for pid in pids {
            host.machine().run(pid, 0);
            host.machine().sleep(pid, 0, 2_000_000);
        }
        let child = host.machine().fork(pids[0]);
        host.machine().kill(child);
        steps += 1;
        if steps == 100 {
            host.act();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// C8: the kernel's count of forks is set back until the watcher gives up, and the act follows
/// before it looks again.
pub(super) fn lost_contact(host: &mut Hostile<'_>) {
    let forks = host.machine().symbol("total_forks").expect("the kernel counts forks");
    let count = host.machine().memory().word(forks);
    for back in 1..=20 {
        host.machine().memory().put_word(forks, count - back);
        if back == 10 {
            host.act();
            host.machine().memory().put_word(forks, count - back);
        }
        if !host.rest(Duration::from_millis(50)) {
            return;
        }
    }
    host.rest_on();
}
