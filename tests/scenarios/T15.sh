# T15: twin: a health check uses a connection on a descriptor of its own
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
serve 4519
#: act
. lib/logins.sh
act
bash -c 'exec 3<>/dev/tcp/127.0.0.1/4519; printf "GET / HTTP/1.0\r\n\r\n" >&3
cat <&3 | grep -q UP; true' < /dev/null > /dev/null 2>&1 &
fact shell $!
await 'at $shell 3 socket:* && at $shell 0 /dev/null'
finish $shell
