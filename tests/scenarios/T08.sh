# T08: twin: a web server runs a script for a request
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
mkdir -p /tmp/t08/cgi-bin
printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\nread line\n%s\necho done\n' \
  "hold=$hold; $pause" > /tmp/t08/cgi-bin/x
chmod 755 /tmp/t08/cgi-bin/x
busybox httpd -f -p 4512 -h /tmp/t08 > /dev/null 2>&1 & fact server $!; port 4512
#: act
. lib/logins.sh
act
(printf 'POST /cgi-bin/x HTTP/1.0\r\nContent-Length: 50\r\n\r\nhello\n'; hold) |
  busybox nc 127.0.0.1 4512 > /dev/null 2>&1 &
await 'shell=$(pgrep -nf "^/bin/sh .*x$")' && fact shell $shell
await 'at $shell 0 pipe:* && at $shell 1 pipe:*'
finish $shell
#: clean
kill $server; rm -r /tmp/t08
