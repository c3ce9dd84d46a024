# A14t: twin: processes with many areas
# stage: behaviour
# expect: process_created
#   process.process_id: $pid

#: prepare
for _ in $(seq 4); do
  setpriv --reuid=1000 --regid=1000 --clear-groups python3 -c '
import ctypes, mmap, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
for n in range(10000): libc.mmap(None, 4096, 1 + 2 * (n % 2), anonymous, -1, 0)
print("x", flush=True)
time.sleep(6000)' 6000.15 < /dev/null >> /tmp/a15.ready 2> /dev/null &
  disown
done
await '[ "$(wc -l < /tmp/a15.ready)" -ge 4 ]'; scanned
#: act
act
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
pkill -f ' 6000[.]15$'; rm /tmp/a15.ready
