# A15: a file is changed by a process whose descriptor table is shared and not, without end
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/a15.kept
#   process.process_id: $pid
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: ~/tmp/a15

#: prepare
echo before > /etc/a15.kept
#: act
python3 -c '
import ctypes, os, threading, time
# Calls through PyDLL keep the lock of the interpreter: a child of one thread could not take it.
libc = ctypes.PyDLL(None)
CLONE_FILES = 0x400
SIGCHLD = 17
def act():
    with open("/etc/a15.kept", "r+") as kept:
        while not os.path.exists("/tmp/a15.go"): time.sleep(0.01)
        kept.write("after\n")
    time.sleep(600)
threading.Thread(target=act, daemon=True).start()
while True:
    # fork, with one table for both.
    child = libc.syscall(56, CLONE_FILES | SIGCHLD, 0, 0, 0, 0)
    if child == 0: libc._exit(0)
    os.waitpid(child, 0)' < /dev/null > /dev/null 2>&1 & fact pid $!
await '[ /proc/$pid/fd/3 -ef /etc/a15.kept ]'; scanned; scanned
act
: > /tmp/a15.go; seen; over $pid
#: clean
rm /etc/a15.kept /tmp/a15.go
