# P10: a flag marks a process for a module that hides it where /proc is listed
# stage: behaviour
# host: flip $pid 10000000
# undo: flip $pid 10000000
# expect: process_terminated
#   process.process_id: $after
#
# Diamorphine marks who is hidden by a flag that the kernel has no use for, and leaves it out where
# a directory is listed: no list of the kernel's changes. Seeing the flag is no matter of views.

#: prepare
sleep 6000.8 < /dev/null > /dev/null 2>&1 & fact pid $!; disown
await '[ /proc/$pid/exe -ef /usr/bin/sleep ]'
#: act
act; sleep 600 & fact after $!; scanned; over $after
#: clean
kill $pid; await '[ ! -e /proc/$pid ]'
