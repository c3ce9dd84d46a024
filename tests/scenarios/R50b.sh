# R50b: a relay by System V shared memory
# stage: behaviour
# within: 4500 ms
# expect: reverse_shell_detected
#   detection.confidence: medium
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4651
#   reverse_shell.process_list.2.process_id: $shell

#: prepare
. lib/peers.sh
commander 4651 300 'id'
#: act
. lib/peers.sh
act
/opt/shared-relay 4651 /bin/sh SYSV < /dev/null > /dev/null 2>&1 &
who shell sh
await 'at $shell 0 pipe:* && grep -q ":122B 01" /proc/net/tcp'
