# A02t: twin: a program replaces its descriptor table now and then
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
# expect: coverage_degraded x0

#: act
. lib/covers.sh
act
swap_tables 20 0.2 0.1 ''
wait $pid
