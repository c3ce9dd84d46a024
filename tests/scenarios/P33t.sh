# P33t: twin: a shell that runs no other program
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid

#: act
(while read -r line; do :; done < <(sleep 1)) & pid=$!; fact pid $pid
act
wait $pid
lacks process_executed process.process_id=$pid
