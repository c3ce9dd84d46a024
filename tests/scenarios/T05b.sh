# T05b: twin: a socket service that is a script
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
printf '#!/bin/sh\nread line\necho got $line\n%s\n' "hold=$hold; $pause" > /tmp/t05.sh
chmod 755 /tmp/t05.sh
systemd-socket-activate --accept --inetd -l 4506 /tmp/t05.sh > /dev/null 2>&1 & fact server $!
port 4506
#: act
. lib/logins.sh
act
(echo hello; hold) | nc.openbsd -N 127.0.0.1 4506 > /dev/null 2>&1 &
who shell '/bin/sh /tmp/t05.sh'
await 'at $shell 0 socket:* && same $shell 0 $shell 1'
finish $shell
#: clean
kill $server; rm /tmp/t05.sh
