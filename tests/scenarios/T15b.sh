# T15b: twin: a script uses a connection on a descriptor of its own
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
serve 4520
cat > /tmp/t15.sh <<'SCRIPT'
exec 3<>/dev/tcp/127.0.0.1/4520
echo hello >&3
while read -r line <&3; do echo $line; done
SCRIPT
#: act
. lib/logins.sh
act
bash /tmp/t15.sh < /dev/null > /dev/null 2>&1 & fact shell $!
await 'at $shell 3 socket:*'
finish $shell
#: clean
rm /tmp/t15.sh
