# T15c: twin: a shell on a terminal has a connection at another descriptor
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
serve 4521
#: act
. lib/logins.sh
act
(sleep 0.5; echo 'exec 3<>/dev/tcp/127.0.0.1/4521'; hold; echo exit) |
  script -qc 'bash --norc -i' /dev/null > /dev/null 2>&1 &
who shell 'bash --norc -i'
await 'at $shell 0 /dev/pts/* && at $shell 3 socket:*'
finish $shell
