# R51: a relay of two processes that map one file in memory, each by an open of its own
# stage: behaviour
# within: 4500 ms
# expect: reverse_shell_detected
#   detection.reason: ~→ shared memory with inode
#   detection.confidence: medium
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.0.process_id: $relay
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4652
#   reverse_shell.process_list.2.process_id: $shell

#: prepare
. lib/peers.sh
commander 4652 300 'id'
#: act
. lib/peers.sh
act
/opt/shared-relay 4652 /bin/sh /dev/shm/r51 < /dev/null > /dev/null 2>&1 & fact relay $!
who shell sh
await 'at $shell 0 pipe:* && grep -q ":122C 01" /proc/net/tcp'
#: clean
rm /dev/shm/r51
