# R55t: twin: the output of a script goes to a peer, and so does a log that grows
# stage: equipped
# expect: process_terminated
#   process.process_id: $backup
# expect: process_terminated
#   process.process_id: $shipper

#: prepare
. lib/peers.sh
peer 4662; peer 4663
: > /tmp/r55t.log
printf 'for i in 1 2 3 4 5 6; do tar -cf - /etc/hosts; sleep 0.5; done\n' > /tmp/r55t.sh
#: act
. lib/peers.sh
act
(sh /tmp/r55t.sh 2> /dev/null | nc.openbsd -N 127.0.0.2 4662) < /dev/null > /dev/null 2>&1 &
who backup 'sh /tmp/r55t.sh'
(tail -f -s 0.1 --pid $backup /tmp/r55t.log | nc.openbsd -N 127.0.0.2 4663) \
  < /dev/null > /dev/null 2>&1 &
who shipper 'tail -f -s 0.1 --pid .* /tmp/r55t.log'
for _ in 1 2 3 4 5 6; do id >> /tmp/r55t.log; sleep 0.4; done
await '! [ -e /proc/$backup ] && ! [ -e /proc/$shipper ]'
#: clean
rm /tmp/r55t.log /tmp/r55t.sh
