# P33t: twin: a shell that runs no other program
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid

#: act
(read -r -t 2 _ <> /run/pace/never) & pid=$!; fact pid $pid
act
wait $pid || true
lacks process_executed process.process_id=$pid
