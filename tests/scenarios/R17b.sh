# R17b: a bind shell: socat accepts and forks, with a pty
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~accepted
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.1.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.source_port: 4427

#: prepare
. lib/peers.sh
socat TCP-LISTEN:4427,fork,reuseaddr EXEC:/bin/sh,pty,stderr,setsid > /dev/null 2>&1 &
fact listener $!
await 'grep -q :114B.*:0000.0A /proc/net/tcp'
#: act
. lib/peers.sh
act
knock 4427
who shell /bin/sh
await 'at $shell 0 /dev/pts/*'
#: clean
kill $listener
