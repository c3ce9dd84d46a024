# P08: a process is removed from the task list
# stage: behaviour
# host: hide $pid task-list
# undo: show $pid
# expect: process_hidden
#   process.process_id: $pid
#   process.process_command_line_arguments: sleep 6000.8
#   detection.reason: "~ is not in the task list, but in the pid IDR, "

#: prepare
sleep 6000.8 < /dev/null > /dev/null 2>&1 & fact pid $!; disown
await '[ /proc/$pid/exe -ef /usr/bin/sleep ]'
#: clean
kill $pid; await '[ ! -e /proc/$pid ]'
