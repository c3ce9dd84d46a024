# P11: a program takes the name of a kernel thread
# stage: behaviour
# expect: process_terminated
#   process.process_id: $argument
#   process.process_executable_path: /usr/bin/sleep
#   process.process_command_line_arguments: [kworker/0:1] 600.6
# expect: process_terminated
#   process.process_id: $name
#   process.process_name: kworker/0:3
#   process.process_executable_path: /usr/bin/bash

#: act
act
(exec -a '[kworker/0:1]' sleep 600.6) & fact argument $!
(printf kworker/0:3 > /proc/$BASHPID/comm; stay) < /dev/tty0 & fact name $!
runs $argument sleep; await 'grep -q kworker /proc/$name/comm'
scanned; over $argument $name
