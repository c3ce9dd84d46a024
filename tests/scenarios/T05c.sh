# T05c: twin: a command for each connection
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
socat TCP-LISTEN:4524,reuseaddr 'SYSTEM:read line; echo got $line; read -r _ < $hold || true' \
  > /dev/null 2>&1 & fact server $!; port 4524
#: act
. lib/logins.sh
act
(echo hello; hold) | nc.openbsd -N 127.0.0.1 4524 > /dev/null 2>&1 &
who shell 'sh -c read line; .*'
finish $shell
