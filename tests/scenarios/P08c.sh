# P08c: a process is removed from every list, and sleeps on
# stage: behaviour
# host: hide $pid task-list idr pid tgid process-group session children control-group
# undo: show $pid
# expect: process_hidden
#   process.process_id: $pid
#   detection.reason: ~and memory, where it was before, in 2 scans

#: prepare
sleep 6000.8 < /dev/null > /dev/null 2>&1 & fact pid $!; disown
await '[ /proc/$pid/exe -ef /usr/bin/sleep ]'
#: clean
kill $pid; await '[ ! -e /proc/$pid ]'
