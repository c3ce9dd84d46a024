"""Collects by drgn the facts of a scan by Panoptes, and prints how long that took, as JSON.

    drgn_scan.py CORE VMLINUX FACTS

An ordinary script, which uses drgn's helpers where there are any. The time that counts is that of
collect(), after which the facts are Python's numbers and strings. Writing them to FACTS, as lines
with the names of `panoptes scan`, is not part of it. Interfaces and hashes of files are left out.
"""

import json
import socket
import sys
import time
from collections import namedtuple

import drgn
from drgn import cast
from drgn.helpers.linux.fs import d_path, for_each_file
from drgn.helpers.linux.list_nulls import hlist_nulls_for_each_entry
from drgn.helpers.linux.mm import cmdline, for_each_vma, vma_name
from drgn.helpers.linux.net import SOCKET_I
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import get_task_state

import lines

S_IFMT, S_IFSOCK = 0o170000, 0o140000
FMODE_PATH = 0x4000
TIME_WAIT, NEW_SYN_RECV = 6, 12

Process = namedtuple(
    "Process",
    "tgid name exec_id parent uid gid euid egid state runtime start pid_ns mnt_ns net_ns"
    " exe size cwd arguments",
)
Thread = namedtuple("Thread", "tgid tid exec_id exit_state")
Descriptor = namedtuple(
    "Descriptor",
    "tgid fd name flags mode close_on_exec inode device permissions uid gid size"
    " deleted change modify access",
)
Area = namedtuple("Area", "tgid start end flags name has_file is_executable")
Connection = namedtuple(
    "Connection",
    "owner state family source source_port destination destination_port netns counters",
)
Facts = namedtuple("Facts", "processes threads descriptors areas connections clock")


def collect(prog):
    """All facts of one scan."""
    facts = Facts([], [], [], [], [], clock(prog))
    owners, runtimes, leaders = {}, {}, []
    for task in for_each_task(prog):
        tgid, tid = task.tgid.value_(), task.pid.value_()
        facts.threads.append(
            Thread(tgid, tid, task.self_exec_id.value_(), task.exit_state.value_())
        )
        runtimes[tgid] = runtimes.get(tgid, 0) + task.se.sum_exec_runtime.value_()
        if tgid == tid:
            leaders.append((tgid, task))
    for tgid, task in leaders:
        facts.processes.append(process(tgid, task, runtimes[tgid]))
        facts.descriptors.extend(descriptors(tgid, task, owners))
        facts.areas.extend(areas(tgid, task))
    facts.connections.extend(connections(prog, owners))
    return facts


def clock(prog):
    """The time of boot, in nanoseconds since 1970."""
    timekeeper = prog["tk_core"].timekeeper
    return timekeeper.offs_real.value_() - timekeeper.offs_boot.value_()


def process(tgid, task, runtime):
    cred, namespaces = task.cred.read_(), task.nsproxy.read_()
    mm, fs = task.mm.read_(), task.fs.read_()
    exe = mm.exe_file.read_() if mm else None
    return Process(
        tgid,
        task.comm.string_(),
        task.self_exec_id.value_(),
        task.real_parent.tgid.value_(),
        cred.uid.val.value_(),
        cred.gid.val.value_(),
        cred.euid.val.value_(),
        cred.egid.val.value_(),
        get_task_state(task),
        runtime + task.signal.sum_sched_runtime.value_(),
        task.start_boottime.value_(),
        namespaces.pid_ns_for_children.ns.inum.value_(),
        namespaces.mnt_ns.ns.inum.value_(),
        namespaces.net_ns.ns.inum.value_(),
        d_path(exe.f_path) if exe else None,
        exe.f_inode.i_size.value_() if exe else None,
        d_path(fs.pwd) if fs else None,
        cmdline(task),
    )


def descriptors(tgid, task, owners):
    """The open files of a process. Notes which of its descriptors has which socket."""
    files = task.files.read_()
    if not files:
        return
    close_on_exec = files.fdt.close_on_exec.read_()
    for fd, file in for_each_file(task):
        inode = file.f_inode.read_()
        number, mode = inode.i_ino.value_(), inode.i_mode.value_()
        if mode & S_IFMT == S_IFSOCK:
            owners.setdefault(SOCKET_I(inode).sk.value_(), (tgid, fd))
        yield Descriptor(
            tgid,
            fd,
            name_of(file, number),
            file.f_flags.value_(),
            file.f_mode.value_() & FMODE_PATH,
            close_on_exec[fd // 64].value_() >> fd % 64 & 1,
            number,
            inode.i_sb.s_dev.value_(),
            mode & 0o7777,
            inode.i_uid.val.value_(),
            inode.i_gid.val.value_(),
            inode.i_size.value_(),
            inode.i_nlink.value_() == 0,
            inode.i_ctime_sec.value_() * 10**9 + inode.i_ctime_nsec.value_() % 2**31,
            inode.i_mtime_sec.value_() * 10**9 + inode.i_mtime_nsec.value_(),
            inode.i_atime_sec.value_() * 10**9 + inode.i_atime_nsec.value_(),
        )


def name_of(file, inode_number):
    """The name as readlink of /proc/PID/fd/N gives it."""
    dentry = file.f_path.dentry.read_()
    type_ = dentry.d_sb.s_type.name.string_()
    if type_ == b"sockfs":
        return b"socket:[%d]" % inode_number
    if type_ == b"pipefs":
        return b"pipe:[%d]" % inode_number
    if type_ == b"anon_inodefs":
        return b"anon_inode:" + dentry.d_name.name.string_()
    if dentry.d_op and dentry.d_op.d_dname:
        # A file in memory that has no directory.
        return b"/" + dentry.d_name.name.string_() + b" (deleted)"
    path = d_path(file.f_path)
    # An unlinked file is in no hash table.
    unlinked = not dentry.d_hash.pprev and dentry.d_parent != dentry
    return path + b" (deleted)" if unlinked else path


def areas(tgid, task):
    mm = task.mm.read_()
    if not mm:
        return
    exe = mm.exe_file.f_inode.value_() if mm.exe_file else 0
    for vma in for_each_vma(mm):
        file = vma.vm_file.read_()
        yield Area(
            tgid,
            vma.vm_start.value_(),
            vma.vm_end.value_(),
            vma.vm_flags.value_(),
            vma_name(vma),
            bool(file),
            bool(file) and file.f_inode.value_() == exe,
        )


def connections(prog, owners):
    """The TCP sockets: those that listen, then all others."""
    hashinfo = prog["tcp_hashinfo"]
    for index in range(hashinfo.lhash2_mask.value_() + 1):
        head = hashinfo.lhash2[index].nulls_head
        for sock in hlist_nulls_for_each_entry("struct sock", head, "__sk_common.skc_nulls_node"):
            yield connection(sock, owners)
    for index in range(hashinfo.ehash_mask.value_() + 1):
        head = hashinfo.ehash[index].chain
        for sock in hlist_nulls_for_each_entry("struct sock", head, "__sk_common.skc_nulls_node"):
            yield connection(sock, owners)


def connection(sock, owners):
    common = sock.member_("__sk_common").read_()
    state, family = common.skc_state.value_(), common.skc_family.value_()
    if family == socket.AF_INET6:
        source = common.skc_v6_rcv_saddr.to_bytes_()
        destination = common.skc_v6_daddr.to_bytes_()
    else:
        source = common.skc_rcv_saddr.to_bytes_()
        destination = common.skc_daddr.to_bytes_()
    counters = None
    if state not in (TIME_WAIT, NEW_SYN_RECV):
        tcp = cast("struct tcp_sock *", sock)
        counters = (
            tcp.bytes_received.value_(),
            tcp.bytes_sent.value_(),
            tcp.segs_in.value_(),
            tcp.segs_out.value_(),
        )
    return Connection(
        owners.get(sock.value_()),
        state,
        family,
        source,
        common.skc_num.value_(),
        destination,
        socket.ntohs(common.skc_dport.value_()),
        common.skc_net.net.ns.inum.value_(),
        counters,
    )


def main():
    core, vmlinux, out = sys.argv[1:]
    start = time.monotonic(), time.process_time()
    prog = drgn.Program()
    prog.set_core_dump(core)
    prog.load_debug_info([vmlinux])
    loaded = time.monotonic(), time.process_time()
    facts = collect(prog)
    collected = time.monotonic(), time.process_time()
    with open(out, "w") as file:
        for line in lines.of_facts(facts):
            file.write(json.dumps(line) + "\n")
    print(
        json.dumps(
            {
                "load": loaded[1] - start[1],
                "cpu": collected[1] - loaded[1],
                "wall": collected[0] - loaded[0],
            }
        )
    )


if __name__ == "__main__":
    main()
