# P09b: a process's number leads to no task
# stage: behaviour
# host: hide $pid pid
# undo: show $pid
# expect: process_hidden
#   process.process_id: $pid
#   detection.reason: "~ is not in the list of its struct pid, but in the task list, "

#: prepare
sleep 6000.8 < /dev/null > /dev/null 2>&1 & fact pid $!; disown
await '[ /proc/$pid/exe -ef /usr/bin/sleep ]'
#: clean
kill $pid; await '[ ! -e /proc/$pid ]'
