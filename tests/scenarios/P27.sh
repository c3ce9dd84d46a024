# P27: a daemon that leaves its parents behind
# stage: behaviour
# expect: process_created
#   process.process_id: $pid
# expect: process_terminated
#   process.process_id: $pid
#   process.process_parent_process_id: 1
#   process.process_command_line_arguments: sleep 600.83

#: act
act
setsid sh -c '(sleep 600.83 &)'
await 'pid=$(pgrep -xf "sleep 600.83")'; fact pid $pid
scanned; over $pid
