# T34: twin: a forwarded port (ssh -L) in use beside the login's own shell
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd); serve 4534
#: act
. lib/logins.sh
act
(hold; echo exit) |
  TERM=dumb ssh -tt -L 4535:127.0.0.1:4534 -p 4502 root@127.0.0.1 > /dev/null 2>&1 &
who shell '-bash'
await 'at $shell 0 /dev/pts/*'
port 4535
hold | nc.openbsd 127.0.0.1 4535 > /dev/null 2>&1 &
await 'grep -q ":11B6 01" /proc/net/tcp'
finish $shell
#: clean
kill $server
