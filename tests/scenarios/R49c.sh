# R49c: a peer logs in through a connection that a process of the machine began
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   detection.confidence: medium
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.0.process_id: $socat
#   reverse_shell.process_list.2.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd)
(hold; echo exit) 2> /dev/null |
  ssh -tt -o 'ProxyCommand=socat TCP-LISTEN:4451 -' root@far > /dev/null 2>&1 &
port 4451
#: act
. lib/logins.sh
act
socat TCP:127.0.0.1:4451 TCP:127.0.0.1:4502 < /dev/null > /dev/null 2>&1 & fact socat $!
who shell '-bash'
await 'at $shell 0 /dev/pts/*'
#: clean
kill $server
