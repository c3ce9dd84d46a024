# T01d: twin: a user logs in by dropbear
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; kill $(pgrep -o sshd); mkdir -p /etc/dropbear
dropbear -R -F -p 4503 > /dev/null 2>&1 & fact server $!; port 4503
#: act
. lib/logins.sh
act
(hold; echo exit) | TERM=dumb ssh -tt -p 4503 root@127.0.0.1 > /dev/null 2>&1 &
who shell '-bash'
await 'at $shell 0 /dev/pts/*'
finish $shell
#: clean
kill $server
