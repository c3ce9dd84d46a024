# P04: a process reuses the id of one that has ended
# stage: behaviour
# expect: process_created x2
#   process.process_id: $pid
# expect: process_terminated
#   process.process_id: $pid
#   process.process_command_line_arguments: sleep 600.31
# expect: process_terminated
#   process.process_id: $pid
#   process.process_command_line_arguments: sleep 600.42

#: act
act
sleep 600.31 & fact pid $!; runs $pid sleep; scanned; over $pid
scanned
# Another process may come between.
for i in {1..100}; do
  echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid
  sleep 600.42 & [ $! != $pid ] || break
  over $!
done
[ $! = $pid ]; runs $pid sleep; scanned; over $pid
