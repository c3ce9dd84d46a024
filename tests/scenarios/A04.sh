# A04: a foreign program starts when long names have filled the room for names
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /opt/stranger
#   process.process_id: $pid
#   process.process_executable_path: /opt/stranger
#   process.process_command_line_arguments: /opt/stranger 600
# allow: file_descriptor_file_content_change

#: prepare
python3 -c '
import os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
os.mkdir("/tmp/a04"); os.chdir("/tmp/a04")
for level in range(18):
    name = chr(97 + level) * 200
    os.mkdir(name); os.chdir(name)
files = [os.open("%d-" % n + "n" * 200, os.O_CREAT | os.O_RDWR) for n in range(4000)]
open("/tmp/a04.ready", "w").close()
time.sleep(6000)' < /dev/null > /dev/null 2>&1 & fact hog $!; disown
await '[ -e /tmp/a04.ready ]'; scanned
#: act
act
/opt/stranger 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm -r /tmp/a04 /tmp/a04.ready
