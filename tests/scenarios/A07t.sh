# A07t: twin: a machine is paused for longer than a clock may stand still, and idle afterwards
# stage: shipped
# host: pause 7000
# expect: process_created
#   process.process_id: $pid
# expect: coverage_degraded x0

#: act
act
sleep 3
sleep 600 & fact pid $!; seen; scanned; over $pid
