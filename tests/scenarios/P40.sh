# P40: programs that live for a moment
# stage: behaviour
# expect: process_executed at least 25
#   process.process_parent_process_id: $parent
#   process.process_executable_path: /usr/bin/busybox
# expect: new_file_mapped at least 25
#   process.process_parent_process_id: $parent
#   process.process_executable_path: /usr/bin/busybox
#   process_memory.file_path: /usr/bin/busybox
#
# Each record of such a process names its program, even where a scan saw it inside exec.

#: prepare
# The whole file is in memory, and a scan has asked for its hash.
cat /usr/bin/busybox > /dev/null; busybox sleep 2
#: act
fact parent $$
act
for turn in {1..25}; do busybox ls -lR /usr/lib > /dev/null; busybox sleep 0.03; done
scanned
of="process.process_parent_process_id=$$"
lacks new_file_mapped $of process.process_executable_path=null
lacks file_descriptor_open $of process.process_executable_path=null
# None is about the shell that the process was before.
of="$of process_memory.file_path=/usr/bin/busybox"
lacks new_file_mapped $of process.process_executable_path=/usr/bin/bash
lacks new_file_mapped $of process.process_hash_sha256=null
