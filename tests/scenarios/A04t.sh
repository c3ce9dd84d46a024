# A04t: twin: a program of the system starts when long names have filled the room for names
# stage: shipped
# expect: process_created
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/sleep
#   process.process_command_line_arguments: sleep 600
# allow: file_descriptor_file_content_change

#: prepare
python3 -c '
import os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
os.mkdir("/tmp/a04t"); os.chdir("/tmp/a04t")
for level in range(18):
    name = chr(97 + level) * 200
    os.mkdir(name); os.chdir(name)
files = [os.open("%d-" % n + "n" * 200, os.O_CREAT | os.O_RDWR) for n in range(4000)]
open("/tmp/a04t.ready", "w").close()
time.sleep(6000)' < /dev/null > /dev/null 2>&1 & fact hog $!; disown
await '[ -e /tmp/a04t.ready ]'; scanned
#: act
act
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm -r /tmp/a04t /tmp/a04t.ready
