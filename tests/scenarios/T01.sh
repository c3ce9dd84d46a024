# T01: twin: a user logs in by telnet
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
busybox telnetd -F -p 4501 -l /bin/sh > /dev/null 2>&1 & fact server $!; port 4501
#: act
. lib/logins.sh
act
(sleep 1; echo 'ls /'; hold; echo exit) | busybox telnet 127.0.0.1 4501 > /dev/null 2>&1 &
await 'shell=$(pgrep -n -P $server)' && fact shell $shell
await 'at $shell 0 /dev/pts/* && at $server 4 socket:* && at $server 5 /dev/ptmx'
finish $shell
#: clean
kill $server
