# T07: twin: a script that is fetched and piped into a shell
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
mkdir -p /tmp/t07; echo "$pause" > /tmp/t07/x
busybox httpd -f -p 4510 -h /tmp/t07 > /dev/null 2>&1 & fact server $!; port 4510
#: act
. lib/logins.sh
act
(busybox wget -q -O- http://127.0.0.1:4510/x | sh) < /dev/null > /dev/null 2>&1 &
who shell sh
await 'at $shell 0 pipe:*'
finish $shell
#: clean
kill $server; rm -r /tmp/t07
