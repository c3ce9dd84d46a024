# P05: a user's processes multiply up to the limit
# stage: behaviour
# expect: process_created at least 50
#   process.process_real_user_id: 1000
# expect: process_created
#   process.process_id: $pid
# expect: process_terminated
#   process.process_id: $pid

#: act
act
setpriv --reuid 1000 --regid 1000 --clear-groups timeout -s KILL 60 bash -c \
  'ulimit -u 150; b() { b | b & }; b; sleep 600' > /dev/null 2>&1 & bomb=$!
seen 1
sleep 600 & fact pid $!; scanned; over $pid
# One kill(2) for all of the user: no process can fork meanwhile, as with one for each.
setpriv --reuid 1000 --regid 1000 --clear-groups bash -c 'kill -KILL -1'
await '! pgrep -U 1000'
wait $bomb || true
