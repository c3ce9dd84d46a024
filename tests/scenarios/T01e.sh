# T01e: twin: a configured agent asks its peer for sessions
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
mkdir -p /opt/sessions/1; cp /usr/bin/socat /opt/sessions/1/agent; serve 4540
#: act
. lib/logins.sh
act
/opt/sessions/1/agent TCP:127.0.0.1:4540 EXEC:/bin/bash,pty,stderr,setsid,sigint,sane \
  > /dev/null 2>&1 &
fact agent $!
who shell /bin/bash
await 'at $shell 0 /dev/pts/* && at $agent 6 /dev/ptmx && at $agent 5 socket:*'
finish $shell
