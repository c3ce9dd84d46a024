# A05t: twin: a process maps very many files as data
# stage: shipped
# expect: process_created
#   process.process_id: $pid
# expect: coverage_degraded x0
#   system_activity.gap: binaries
# allow: file_descriptor_file_content_change

#: act
python3 -c '
import ctypes, mmap, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
size = os.stat("/usr/bin/true").st_size
os.mkdir("/tmp/a05t")
for n in range(3000):
    fd = os.open("/tmp/a05t/%d" % n, os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, size)
    libc.mmap(None, 4096, mmap.PROT_READ | 0, mmap.MAP_PRIVATE, fd, 0)
    os.close(fd)
open("/tmp/a05t.ready", "w").close()
time.sleep(6000)' < /dev/null > /dev/null 2>&1 & fact hog $!; disown
await '[ -e /tmp/a05t.ready ]'; scanned
act
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm -r /tmp/a05t /tmp/a05t.ready
