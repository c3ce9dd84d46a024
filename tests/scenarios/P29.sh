# P29: twin: a process that is stopped
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
#
# Once it is killed it is a zombie for as long as the machine takes to let it go.

#: prepare
sleep 6000 > /dev/null 2>&1 & fact pid $!; runs $pid sleep
#: act
kill -STOP $pid; scanned; scanned; scanned
lacks process_zombie process.process_id=$pid
act; kill -KILL $pid
