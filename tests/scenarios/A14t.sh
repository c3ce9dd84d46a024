# A14t: twin: processes with many areas
# stage: behaviour
# expect: process_created
#   process.process_id: $pid
# expect: coverage_degraded x0

#: prepare
. lib/covers.sh
many_areas 10000 3 6000.15 /tmp/a14t.ready
#: act
act
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
pkill -f ' 6000[.]15$'; rm /tmp/a14t.ready
