# A11t: twin: a process closes 3000 files that it has only read
# stage: shipped
# expect: process_created
#   process.process_id: $pid
# expect: coverage_degraded x0
#   system_activity.gap: content_changes
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /tmp/a11t.ready

#: prepare
python3 -c '
import os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
files = [os.open("/etc/passwd", os.O_RDONLY) for n in range(3000)]
open("/tmp/a11t.ready", "w").close()
while not os.path.exists("/tmp/a11t.go"): time.sleep(0.001)
for file in files: os.close(file)
time.sleep(6000)' < /dev/null > /dev/null 2>&1 & fact hog $!; disown
await '[ -e /tmp/a11t.ready ]'; scanned
#: act
act
: > /tmp/a11t.go
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm /tmp/a11t.ready /tmp/a11t.go
