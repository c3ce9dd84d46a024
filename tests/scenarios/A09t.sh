# A09t: twin: a thread maps and unmaps without end
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid

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
time.sleep(2)
time.sleep(600)' & fact pid $!
scanned; sleep 3; scanned; over $pid
