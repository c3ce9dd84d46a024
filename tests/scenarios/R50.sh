# R50: a relay of two processes that share memory without a file
# stage: behaviour
# within: 4500 ms
# expect: reverse_shell_detected
#   detection.reason: ~→ shared memory with inode
#   detection.confidence: medium
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.0.process_id: $relay
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4650
#   reverse_shell.process_list.2.process_id: $shell

#: prepare
. lib/peers.sh
commander 4650 300 'id'
#: act
. lib/peers.sh
act
/opt/shared-relay 4650 /bin/sh < /dev/null > /dev/null 2>&1 & fact relay $!
who shell sh
await 'at $shell 0 pipe:* && grep -q ":122A 01" /proc/net/tcp'
