# A14: memory becomes executable when a user has filled the room for areas
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.memory_permissions: r-xp

#: prepare
for _ in $(seq 6); do
  setpriv --reuid=1000 --regid=1000 --clear-groups python3 -c '
import ctypes, mmap, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
for n in range(64000): libc.mmap(None, 4096, 1 + 2 * (n % 2), anonymous, -1, 0)
print("x", flush=True)
time.sleep(6000)' 6000.14 < /dev/null >> /tmp/a14.ready 2> /dev/null &
  disown
done
await '[ "$(wc -l < /tmp/a14.ready)" -ge 6 ]'; scanned
#: act
/opt/memory written # says @act
#: clean
pkill -f ' 6000[.]14$'; rm /tmp/a14.ready
