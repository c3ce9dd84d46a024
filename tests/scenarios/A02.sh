# A02: memory becomes executable while the leader replaces its descriptor table without end
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.memory_permissions: r-xp

#: act
. lib/covers.sh
act
swap_tables -1 0.5 0 '
code = libc.mmap(None, 4096, 3, anonymous, -1, 0)
ctypes.memset(code, 0x90, 4096)
def act():
    time.sleep(1)
    libc.mprotect(code, 4096, 5)
    time.sleep(600)
threading.Thread(target=act, daemon=True).start()'
seen; scanned; over $pid
