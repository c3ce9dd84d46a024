# A12t: twin: a process with many connections
# stage: behaviour
# expect: process_created
#   process.process_id: $pid
# expect: coverage_degraded x0

#: prepare
. lib/covers.sh
many_connections 4000 4713 /tmp/a12t.ready
#: act
act
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm /tmp/a12t.ready
