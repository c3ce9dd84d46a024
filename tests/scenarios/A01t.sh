# A01t: twin: a user has very many descriptors open
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
# expect: coverage_degraded x0

#: prepare
. lib/covers.sh
many_descriptors 100000 /tmp/a01t.ready
#: act
act
bash -c 'exec sleep 600' & fact pid $!; runs $pid sleep; scanned; over $pid
#: clean
kill $hog; rm /tmp/a01t.ready
