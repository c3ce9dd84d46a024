# P09: a process is removed from the tree of pids
# stage: behaviour
# host: hide $pid idr
# undo: show $pid
# expect: process_hidden
#   process.process_id: $pid
#   detection.reason: "~ is not in the pid IDR, but in the task list, "

#: prepare
sleep 6000.8 < /dev/null > /dev/null 2>&1 & fact pid $!; disown
await '[ /proc/$pid/exe -ef /usr/bin/sleep ]'
#: clean
kill $pid; await '[ ! -e /proc/$pid ]'
