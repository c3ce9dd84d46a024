# T15b: twin: a script uses a connection on a descriptor of its own
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
serve 4520
printf 'exec 3<>/dev/tcp/127.0.0.1/4520\necho hello >&3\nwhile read -r line <&3; do echo $line; done\n' > /tmp/t15.sh
#: act
. lib/logins.sh
act
bash /tmp/t15.sh < /dev/null > /dev/null 2>&1 & fact shell $!
await 'at $shell 3 socket:*'
finish $shell
#: clean
rm /tmp/t15.sh
