# T14: twin: rsync over ssh
# stage: equipped
# expect: process_terminated
#   process.process_id: $client

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd)
mkdir -p /tmp/t14; head -c 300000 /dev/urandom > /tmp/t14/a
#: act
. lib/logins.sh
act
(scanned; exec rsync -a --bwlimit=30 -e 'ssh -p 4502' /tmp/t14/a root@127.0.0.1:/tmp/t14/b \
  < /dev/null > /dev/null 2>&1) &
fact client $!
who shell 'rsync --server .*'
gone $client
cmp /tmp/t14/a /tmp/t14/b
#: clean
kill $server; rm -r /tmp/t14
