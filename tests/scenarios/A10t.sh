# A10t: twin: 500 shells read what one process writes
# stage: behaviour
# expect: process_created
#   process.process_id: $pid
# expect: coverage_degraded x0

#: prepare
. lib/covers.sh
crowded_pipe /tmp/a10t
#: act
act
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm /tmp/a10t /tmp/a10t.ready
