# R53: a relay of two processes that send each other messages of System V
# stage: behaviour
# within: 4500 ms
# expect: reverse_shell_detected
#   detection.reason: ~→ message queue
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.0.process_id: $relay
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4663
#   reverse_shell.process_list.2.process_id: $shell

#: prepare
. lib/peers.sh
commander 4663 300 'id'
#: act
. lib/peers.sh
act
/opt/queue-relay 4663 /bin/sh < /dev/null > /dev/null 2>&1 & fact relay $!
who shell sh
await 'at $shell 0 pipe:* && grep -q ":1237 01" /proc/net/tcp'
