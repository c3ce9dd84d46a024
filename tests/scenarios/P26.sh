# P26: twin: processes that change their names
# stage: behaviour
# expect: process_terminated
#   process.process_id: $login
#   process.process_executable_path: /usr/bin/bash
#   process.process_command_line_arguments: -bash --norc -c read -r _ <> /run/pace/never
# expect: process_terminated
#   process.process_id: $server
#   process.process_executable_path: /usr/bin/sleep
# expect: process_terminated
#   process.process_id: $applet
#   process.process_executable_path: /usr/bin/busybox

#: act
act
(exec -a -bash bash --norc -c 'read -r _ <> /run/pace/never') & fact login $!
(exec -a 'postgres: writer' sleep 600) & fact server $!
/bin/busybox sleep 600 & fact applet $!
await 'begins $login -bash'; runs $server sleep; runs $applet busybox
scanned; over $login $server $applet
