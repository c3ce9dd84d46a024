# P21: a process is traced by another than its parent
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/sleep
#   process.process_parent_process_id: 1

#: prepare
sleep 6000 > /dev/null 2>&1 & fact pid $!; runs $pid sleep
#: act
act
python3 -c "import ctypes, os, pace
libc = ctypes.CDLL(None)
assert libc.ptrace(16, $pid, None, None) == 0
os.waitpid($pid, 0x40000000)
assert 't (tracing stop)' in open('/proc/$pid/status').read()
pace.scanned()
libc.ptrace(17, $pid, None, None)"
kill $pid
