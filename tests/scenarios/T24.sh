# T24: twin: a log that a shell writes with a follower that sends it away, and a queue of jobs
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/peers.sh
peer 4635
: > /tmp/t24.log; : > /tmp/t24.jobs
printf 'for n in 1 2 3 4 5 6 7 8; do echo line $n; sleep 0.3; done\n' > /tmp/t24.script
#: act
. lib/logins.sh
act
(tail -f -s 0.1 /tmp/t24.log | grep --line-buffered line | tee /tmp/t24.copy \
  | nc.openbsd 127.0.0.1 4635) < /dev/null > /dev/null 2>&1 &
(tail -f -s 0.1 /tmp/t24.jobs | /bin/sh >> /tmp/t24.log 2>&1) < /dev/null > /dev/null 2>&1 &
tail -f -s 0.1 /tmp/t24.log < /dev/null > /dev/null 2>&1 &
(for n in 1 2 3 4; do echo "echo line of job $n"; sleep 0.5; done >> /tmp/t24.jobs) \
  > /dev/null 2>&1 &
sh < /tmp/t24.script >> /tmp/t24.log 2>&1 & fact shell $!
gone $shell
#: clean
pkill -f '^tail -f -s 0.1 /tmp/t24' || true
rm -f /tmp/t24.log /tmp/t24.jobs /tmp/t24.script /tmp/t24.copy
