# A15: a shell's standard input is exchanged without end by a process that shares its descriptors
# stage: behaviour
# expect: coverage_degraded at least 1
#   system_activity.gap: unstable
#   system_activity.process_id: $pid

#: act
act
python3 -c '
import ctypes, os, socket, time
libc = ctypes.CDLL(None)
other = os.open("/dev/zero", os.O_RDONLY); null = os.open("/dev/null", os.O_RDONLY)
CLONE_FILES = 0x400
SIGCHLD = 17
# fork, with one table for both.
if libc.syscall(56, CLONE_FILES | SIGCHLD, 0, 0, 0, 0) == 0:
    while os.getppid() != 1:
        os.dup2(other, 0); os.dup2(null, 0)
    os._exit(0)
time.sleep(600)' < /dev/null & fact pid $!
seen; over $pid
