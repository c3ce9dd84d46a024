# F01: fileless: a foreign program from a memfd
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /memfd:stranger (deleted)
#   elf_file.elf_file_hash_sha256: $sha256
#   process.process_id: $pid
#   detection.reason: ~without a file

#: act
python3 -c '
import os
fd = os.memfd_create("stranger")
os.sendfile(fd, os.open("/opt/stranger", os.O_RDONLY), 0, 1 << 30)
print("@act", flush=True)
os.execv("/proc/self/fd/%d" % fd, ["stranger", "600"])' &
fact pid $!
fact sha256 "$(sha256sum < /opt/stranger | cut -d' ' -f1)"
seen; over $pid
