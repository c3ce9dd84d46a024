# A06t: twin: a program of the system starts beside many others of a user
# stage: shipped
# expect: process_terminated
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/sleep
# expect: coverage_degraded x0

#: prepare
. lib/covers.sh
many_processes 400 6000.07 /tmp/a06t.ready
#: act
act
sleep 600 & fact pid $!; runs $pid sleep; scanned; over $pid
#: clean
kill $crowd; pkill -f '^sleep 6000[.]07'; rm /tmp/a06t.ready
