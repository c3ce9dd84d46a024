# T02: twin: an ssh client in an interactive shell
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd)
#: act
. lib/logins.sh
act
(sleep 0.5; echo 'ssh -p 4502 root@127.0.0.1 sleep 6000'; hold; echo exit) |
  script -qc 'bash --norc -i' /dev/null > /dev/null 2>&1 &
who shell 'bash --norc -i'; who client 'ssh -p 4502 root@127.0.0.1 sleep 6000'
await 'at $client 0 /dev/pts/* && at $shell 0 /dev/pts/*'
scanned; kill $client; gone $client; finish $shell
#: clean
kill $server; pkill -xf 'sleep 6000' || true
