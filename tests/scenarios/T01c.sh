# T01c: twin: commands by ssh without a terminal, and to a shell's input
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell
# expect: process_terminated
#   process.process_id: $second

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd)
#: act
. lib/logins.sh
act
ssh -p 4502 root@127.0.0.1 "hold=$hold; $pause; true" < /dev/null > /dev/null 2>&1 &
who shell 'bash -c hold=.*; true'
(hold; echo exit) | ssh -p 4502 root@127.0.0.1 bash -s > /dev/null 2>&1 &
who second 'bash -s'
finish $second; gone $shell
#: clean
kill $server
