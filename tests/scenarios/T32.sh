# T32: twin: an ssh client within a login by ssh
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd)
#: act
. lib/logins.sh
act
(sleep 0.5; echo 'ssh -tt -p 4502 root@127.0.0.1 bash -i'; hold; echo exit; echo exit) |
  TERM=dumb ssh -tt -p 4502 root@127.0.0.1 > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 0 /dev/pts/*'
finish $shell
#: clean
kill $server
