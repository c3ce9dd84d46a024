"""Facts of drgn_scan.py as lines of `panoptes scan`: the same names, the same text."""

import ipaddress
import socket
from datetime import datetime, timezone

# FileMode of Panoptes: the words, and the bits of f_flags that must all be set.
FLAGS = [
    ("APPEND", 0o2000),
    ("NONBLOCK", 0o4000),
    ("ASYNC", 0o20000),
    ("DIRECT", 0o40000),
    ("SYNC", 0o4010000),
    ("NOATIME", 0o1000000),
    ("LARGE_FILE", 0o100000),
]
ACCESS = ["READ_ONLY", "WRITE_ONLY", "READ_WRITE", "READ_WRITE"]
STATES = (
    "? ESTABLISHED SYN_SENT SYN_RECEIVED FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED CLOSE_WAIT LAST_ACK"
    " LISTEN CLOSING SYN_RECEIVED"
).split()


def of_facts(facts):
    for process in facts.processes:
        yield of_process(process, facts.clock)
    for thread in facts.threads:
        yield {
            "kind": "thread",
            "process_id": thread.tgid,
            "thread_id": thread.tid,
            "thread_self_exec_id": thread.exec_id,
            "thread_exit_state": thread.exit_state,
        }
    for descriptor in facts.descriptors:
        yield of_descriptor(descriptor)
    for area in facts.areas:
        yield of_area(area)
    for connection in facts.connections:
        yield of_connection(connection)


def of_process(process, boot):
    line = {
        "kind": "process",
        "process_name": text(process.name),
        "process_id": process.tgid,
        "process_self_exec_id": process.exec_id,
        "process_creation_time_iso_8601_ns": moment(boot + process.start),
        "process_parent_process_id": process.parent,
        "process_real_user_id": process.uid,
        "process_real_group_id": process.gid,
        "process_effective_user_id": process.euid,
        "process_effective_group_id": process.egid,
        "process_state": process.state,
        "process_cpu_time_ns": process.runtime,
        "process_pid_namespace": f"pid:[{process.pid_ns}]",
        "process_mount_points_namespace": f"mnt:[{process.mnt_ns}]",
        "process_network_namespace": f"net:[{process.net_ns}]",
    }
    if process.exe is not None:
        line["process_executable_path"] = text(process.exe)
        line["process_file_size_bytes"] = process.size
    if process.cwd is not None:
        line["process_current_working_directory"] = text(process.cwd)
    if process.arguments:
        line["process_command_line_argument_list"] = [text(each) for each in process.arguments]
    return line


def of_descriptor(descriptor):
    mode = ["PATH" if descriptor.mode else ACCESS[descriptor.flags & 3]]
    mode += [word for word, bits in FLAGS if descriptor.flags & bits == bits]
    mode += ["CLOSE_ON_EXEC"] if descriptor.close_on_exec else []
    device = descriptor.device
    times = ("change", "modify", "access")
    return {
        "kind": "file_descriptor",
        "process_id": descriptor.tgid,
        "file_descriptor_index": descriptor.fd,
        "file_descriptor_name": text(descriptor.name),
        "file_descriptor_file_mode": "|".join(mode),
        "file_descriptor_inode_number": descriptor.inode,
        "file_descriptor_inode_device_identifier": f"{device >> 20}:{device & 0xFFFFF}",
        "file_descriptor_inode_permissions": f"{descriptor.permissions:04o}",
        "file_descriptor_inode_uid": descriptor.uid,
        "file_descriptor_inode_gid": descriptor.gid,
        "file_descriptor_inode_size_bytes": descriptor.size,
        "file_descriptor_inode_deleted": descriptor.deleted,
    } | {
        f"file_descriptor_inode_{name}_time_iso_8601_ns": moment(getattr(descriptor, name))
        for name in times
    }


def of_area(area):
    bits = zip("rwx", (1, 2, 4))
    permissions = "".join(letter if area.flags & bit else "-" for letter, bit in bits)
    line = {
        "kind": "memory",
        "process_id": area.tgid,
        "virtual_memory_area_start_address": hex(area.start),
        "virtual_memory_area_end_address": hex(area.end),
        # VM_MAYSHARE
        "memory_permissions": permissions + ("s" if area.flags & 0x80 else "p"),
        "is_main_process_executable": area.is_executable,
    }
    if area.name:
        line["file_path" if area.has_file else "memory_name"] = text(area.name)
    return line


def of_connection(connection):
    line = {
        "kind": "connection",
        "connection_state": STATES[connection.state],
        "source_ip_address": address(connection.source),
        "source_port": connection.source_port,
        "destination_ip_address": address(connection.destination),
        "destination_port": connection.destination_port,
        "network_namespace": f"net:[{connection.netns}]",
    }
    if connection.owner:
        line["process_id"], line["file_descriptor_id"] = connection.owner
    if connection.counters:
        names = ["tcp_bytes_in", "tcp_bytes_out", "tcp_segments_in", "tcp_segments_out"]
        line |= zip(names, connection.counters)
    return line


def address(packed):
    address = ipaddress.ip_address(packed)
    return str(getattr(address, "ipv4_mapped", None) or address)


def text(raw):
    return raw.decode(errors="replace")


def moment(nanoseconds):
    seconds, rest = divmod(nanoseconds, 10**9)
    date = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{date:%Y-%m-%dT%H:%M:%S}.{rest:09}+00:00"
