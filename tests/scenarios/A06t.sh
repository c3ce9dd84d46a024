# A06t: twin: a program of the system starts beside many others of a user
# stage: shipped
# expect: process_created
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/sleep

#: prepare
setpriv --reuid=1000 --regid=1000 --clear-groups python3 -c '
import os, resource, time
resource.setrlimit(resource.RLIMIT_NPROC, (16384, 16384))
for n in range(400):
    if os.posix_spawn("/bin/busybox", ["sleep", "6000.07"], os.environ, setpgroup=0) == 0: break
time.sleep(6000)' < /dev/null > /dev/null 2>&1 & fact crowd $!; disown
await '[ "$(pgrep -fc "^sleep 6000[.]07")" -ge 400 ]'; scanned
#: act
act
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $crowd; pkill -f '^sleep 6000[.]07'
