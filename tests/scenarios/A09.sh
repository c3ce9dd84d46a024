# A09: memory becomes executable while a thread maps and unmaps without end
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.memory_permissions: r-xp

#: act
. lib/covers.sh
act
churn '
code = libc.mmap(None, 4096, 3, anonymous, -1, 0)
ctypes.memset(code, 0x90, 4096)
time.sleep(1)
libc.mprotect(code, 4096, 5)'
seen; scanned; over $pid
