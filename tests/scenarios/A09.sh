# A09: memory becomes executable while a thread maps and unmaps without end
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.memory_permissions: r-xp

#: act
act
python3 -c '
import ctypes, mmap, sys, threading, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
def churn():
    while True:
        libc.munmap(libc.mmap(None, 8192, 1, anonymous, -1, 0), 8192)
threading.Thread(target=churn, daemon=True).start()
code = libc.mmap(None, 4096, 3, anonymous, -1, 0)
ctypes.memset(code, 0x90, 4096)
time.sleep(1)
libc.mprotect(code, 4096, 5)
time.sleep(600)' & fact pid $!
seen; scanned; over $pid
