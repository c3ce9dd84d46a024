# A03t: twin: a program of the system starts in a scope that its user named like a container
# stage: shipped
# expect: process_terminated
#   process.process_id: $pid
# expect: coverage_degraded x0

#: prepare
. lib/covers.sh
user_scope a03t
#: act
. lib/covers.sh
act
in_scope /usr/bin/sleep 600
runs $pid sleep; scanned; over $pid
#: clean
await "rmdir $group"
