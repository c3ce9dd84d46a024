# P08d: a process is removed from its control group's tasks
# stage: behaviour
# host: hide $pid control-group
# undo: show $pid
# expect: process_hidden
#   process.process_id: $pid
#   detection.reason: "~ is not in its control group's tasks, but in the task list, "

#: prepare
sleep 6000.8 < /dev/null > /dev/null 2>&1 & fact pid $!; disown
await '[ /proc/$pid/exe -ef /usr/bin/sleep ]'
#: clean
kill $pid; await '[ ! -e /proc/$pid ]'
