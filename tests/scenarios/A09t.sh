# A09t: twin: a thread maps and unmaps without end
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
# expect: coverage_degraded x0

#: act
. lib/covers.sh
act
churn 'time.sleep(2)'
scanned; sleep 3; scanned; over $pid
