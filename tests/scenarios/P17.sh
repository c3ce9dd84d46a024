# P17: a shell that runs as its owner
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
#   process.process_executable_path: /tmp/.s
#   process.process_real_user_id: 1000
#   process.process_effective_user_id: 0

#: prepare
cp /bin/bash /tmp/.s; chmod 4755 /tmp/.s
#: act
act
setpriv --reuid 1000 --regid 1000 --clear-groups /tmp/.s -p -c 'read -r _ <> /run/pace/never' &
fact pid $!
await '[ /proc/$pid/exe -ef /tmp/.s ]'; scanned; over $pid
#: clean
rm /tmp/.s
