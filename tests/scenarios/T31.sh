# T31: twin: a login through a port that an ssh client leads back (ssh -R)
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd)
ssh -N -R 4531:127.0.0.1:4502 -p 4502 root@127.0.0.1 > /dev/null 2>&1 & fact tunnel $!
port 4531
#: act
. lib/logins.sh
act
(hold; echo exit) | TERM=dumb ssh -tt -p 4531 root@127.0.0.1 > /dev/null 2>&1 &
who shell '-bash'
await 'at $shell 0 /dev/pts/*'
finish $shell
kill $tunnel
#: clean
kill $server
