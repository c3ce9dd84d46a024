# P20: twin: a process drops its privileges
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
#   process.process_real_user_id: 1000
#   process.process_effective_user_id: 1000
#   process.process_effective_group_id: 1000

#: act
act
setpriv --reuid 1000 --regid 1000 --clear-groups --bounding-set -all --no-new-privs sleep 600 &
fact pid $!; runs $pid sleep; scanned; over $pid
