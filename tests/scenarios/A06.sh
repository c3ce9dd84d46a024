# A06: a foreign program starts when a user has filled the room for processes
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /opt/stranger
#   process.process_id: $pid

#: prepare
setpriv --reuid=1000 --regid=1000 --clear-groups python3 -c '
import os, resource, time
resource.setrlimit(resource.RLIMIT_NPROC, (16384, 16384))
for n in range(4300):
    if os.posix_spawn("/bin/busybox", ["sleep", "6000.06"], os.environ, setpgroup=0) == 0: break
time.sleep(6000)' < /dev/null > /dev/null 2>&1 & fact crowd $!; disown
await '[ "$(pgrep -fc "^sleep 6000[.]06")" -ge 4300 ]'; scanned
#: act
act
/opt/stranger 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $crowd; pkill -f '^sleep 6000[.]06'
