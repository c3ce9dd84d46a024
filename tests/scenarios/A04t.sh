# A04t: twin: a program of the system starts when long names have filled the room for names
# stage: shipped
# expect: process_terminated
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/sleep
#   process.process_command_line_arguments: sleep 600
# expect: coverage_degraded x0
# allow: file_descriptor_file_content_change

#: prepare
. lib/covers.sh
long_names /tmp/a04t
#: act
act
sleep 600 & fact pid $!; runs $pid sleep; scanned; over $pid
#: clean
kill $hog; rm -r /tmp/a04t /tmp/a04t.ready
