# R25: a language's interpreter reads its program from a connection
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4481

#: prepare
. lib/peers.sh
peer 4481 'import time; time.sleep(1)'
#: act
. lib/peers.sh
act
/opt/connect-back 4481 /usr/bin/python3 < /dev/null > /dev/null 2>&1
who shell /usr/bin/python3
await 'at $shell 0 socket:* && same $shell 0 $shell 1'
