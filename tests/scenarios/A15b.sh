# A15b: a program of the system gets another content and its former times, by the clock set back
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /usr/bin/tail
#   process.process_id: $pid
# allow: file_descriptor_file_content_change

#: prepare
. lib/covers.sh
tail -f /dev/null & fact known $!; runs $known tail; scanned; scanned; over $known
#: act
rewrite() {
  python3 -c '
import os, sys, time
path, at = sys.argv[1], int(sys.argv[2])
there = os.stat(path)
file = os.open(path, os.O_RDWR)
set_time = lambda ns: time.clock_settime_ns(time.CLOCK_REALTIME, ns)
ahead = time.time_ns() - time.monotonic_ns()
byte = os.pread(file, 1, at)[0] ^ 1
for _ in range(1000):
    # A change within the same tick has exactly this time.
    set_time(there.st_ctime_ns)
    os.pwrite(file, bytes([byte]), at)
    os.utime(file, ns=(there.st_atime_ns, there.st_mtime_ns))
    if os.stat(path).st_ctime_ns == there.st_ctime_ns: break
else: sys.exit("the change has another time")
os.close(file)
set_time(time.monotonic_ns() + ahead)' "$@"
}
rewrite /usr/bin/tail 15
act
tail -f /dev/null & fact pid $!; seen; over $pid
rewrite /usr/bin/tail 15
