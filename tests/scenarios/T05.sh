# T05: twin: a service started for each connection is no shell
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
tcpserver -HRl0 0 4505 cat > /dev/null 2>&1 & fact server $!; port 4505
#: act
. lib/logins.sh
act
hold | nc.openbsd -N 127.0.0.1 4505 > /dev/null 2>&1 &
who shell cat
await 'at $shell 0 socket:* && same $shell 0 $shell 1'
finish $shell
#: clean
kill $server
