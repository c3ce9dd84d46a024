# T33: twin: a relay in front of sshd
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd)
socat TCP-LISTEN:4533 TCP:127.0.0.1:4502 > /dev/null 2>&1 &
port 4533
#: act
. lib/logins.sh
act
(hold; echo exit) | TERM=dumb ssh -tt -p 4533 root@127.0.0.1 > /dev/null 2>&1 &
who shell '-bash'
await 'at $shell 0 /dev/pts/*'
finish $shell
#: clean
kill $server
