# T12: twin: tunnels have no shell
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd); serve 4515; serve 4516
socat TCP-LISTEN:4517 TCP:127.0.0.1:4515 > /dev/null 2>&1 &
port 4517
#: act
. lib/logins.sh
act
ssh -N -L 4518:127.0.0.1:4516 -p 4502 root@127.0.0.1 > /dev/null 2>&1 & fact tunnel $!
port 4518
hold | nc.openbsd 127.0.0.1 4517 > /dev/null 2>&1 & fact shell $!
hold | nc.openbsd 127.0.0.1 4518 > /dev/null 2>&1 &
await 'grep -q ":11A3 01" /proc/net/tcp && grep -q ":11A4 01" /proc/net/tcp'
finish $shell
kill $tunnel
#: clean
kill $server
