# T01b: twin: a user logs in by ssh
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd)
#: act
. lib/logins.sh
act
(hold; echo exit) | TERM=dumb ssh -tt -p 4502 root@127.0.0.1 > /dev/null 2>&1 &
who shell '-bash'
await 'at $shell 0 /dev/pts/*'; [ "$(cat /proc/$shell/loginuid)" = 0 ]
finish $shell
#: clean
kill $server
