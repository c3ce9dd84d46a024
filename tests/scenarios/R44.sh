# R44: a shell whose input alone comes from a peer
# stage: equipped
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   detection.confidence: medium
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $nc
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4644
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
commander 4644 300 'sleep 0.1'
#: act
. lib/peers.sh
act
nc.openbsd -d 127.0.0.1 4644 < /dev/null 2> /dev/null | bash -s r44 > /dev/null 2>&1 &
who nc 'nc.openbsd -d 127.0.0.1 4644'; who shell 'bash -s r44'
await 'at $shell 0 pipe:* && at $shell 1 /dev/null'
