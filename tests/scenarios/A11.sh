# A11: a file is changed while another process closes 6000 changed files
# stage: behaviour
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /tmp/a11.kept
#   process.process_id: $pid
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: ~/tmp/a11/
#
# Beyond its share, the noise is counted: coverage_degraded names its process.

#: prepare
echo before > /tmp/a11.kept
python3 -c '
import os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
os.mkdir("/tmp/a11")
files = [os.open("/tmp/a11/%d" % n, os.O_CREAT | os.O_RDWR) for n in range(6000)]
open("/tmp/a11.ready", "w").close()
while not os.path.exists("/tmp/a11.go"): time.sleep(0.001)
for file in files: os.write(file, b"x")
for file in files: os.close(file)
time.sleep(6000)' < /dev/null > /dev/null 2>&1 & fact hog $!; disown
await '[ -e /tmp/a11.ready ]'; scanned
#: act
(exec 7<> /tmp/a11.kept; scanned; act; echo after >&7; : > /tmp/a11.go; exec 7>&-; stay) &
fact pid $!
seen; over $pid
#: clean
kill $hog; rm -r /tmp/a11 /tmp/a11.ready /tmp/a11.go /tmp/a11.kept
