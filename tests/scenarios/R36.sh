# R36: an io_uring holds the connection without a descriptor
# stage: behaviour
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $relay
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4636
#   reverse_shell.process_list.1.process_id: $shell
# expect: network_connection_created
#   process.process_id: $relay
#   network_connection.destination_port: 4636

#: prepare
. lib/peers.sh
commander 4636 300 'id'
#: act
. lib/peers.sh
act
/opt/ring-relay 4636 /bin/sh < /dev/null > /dev/null 2>&1 & fact relay $!
who shell sh
await 'at $shell 0 pipe:* && grep -q ":121C 01" /proc/net/tcp'
