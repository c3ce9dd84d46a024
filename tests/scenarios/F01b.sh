# F01b: fileless: a shipped program from a memfd
# stage: shipped
# expect: binary_executed_not_as_intended
#   elf_file.elf_file_path: /memfd:box (deleted)
#   process.process_id: $pid
#   detection.reason: ~without a file

#: act
python3 -c '
import os
fd = os.memfd_create("box")
os.sendfile(fd, os.open("/bin/busybox", os.O_RDONLY), 0, 1 << 30)
print("@act", flush=True)
os.execv("/proc/self/fd/%d" % fd, ["sleep", "600"])' &
fact pid $!
seen; over $pid
