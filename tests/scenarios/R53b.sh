# R53b: the same by one queue, with a type of messages for each direction
# stage: behaviour
# within: 9500 ms
# expect: reverse_shell_detected
#   detection.reason: ~→ message queue
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.0.process_id: $relay
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4664
#   reverse_shell.process_list.2.process_id: $shell

#: prepare
. lib/peers.sh
commander 4664 300 'sleep 0.3; id' 0.7
#: act
. lib/peers.sh
act
/opt/queue-relay 4664 /bin/sh ONE < /dev/null > /dev/null 2>&1 & fact relay $!
who shell sh
await 'at $shell 0 pipe:* && grep -q ":1238 01" /proc/net/tcp'
