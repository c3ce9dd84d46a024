# P32: twin: the machine is paused for a second, and resumed
# stage: behaviour
# host: pause 1000
# expect: process_terminated
#   process.process_id: $pid
# expect: process_hidden x0
#   process.process_id: $pid

#: prepare
sleep 6000 > /dev/null 2>&1 & fact pid $!; runs $pid sleep
#: act
act
kill $pid
