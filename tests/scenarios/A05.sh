# A05: a foreign program starts when a process has mapped very many files executable
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /opt/stranger
#   process.process_id: $pid
# expect: coverage_degraded at least 1
#   system_activity.gap: binaries
#   system_activity.process_id: $hog
# allow: file_descriptor_file_content_change
#
# The files are sparse and as large as a shipped one: their content never becomes known.

#: act
python3 -c '
import ctypes, mmap, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
size = os.stat("/usr/bin/true").st_size
os.mkdir("/tmp/a05")
for n in range(33000):
    fd = os.open("/tmp/a05/%d" % n, os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, size)
    libc.mmap(None, 4096, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, fd, 0)
    os.close(fd)
open("/tmp/a05.ready", "w").close()
time.sleep(6000)' < /dev/null > /dev/null 2>&1 & fact hog $!; disown
await '[ -e /tmp/a05.ready ]'; scanned
act
/opt/stranger 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm -r /tmp/a05 /tmp/a05.ready
