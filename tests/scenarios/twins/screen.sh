# screen: screen with a shell, detached, and in a login

#: turn
export SCREENDIR=/tmp/screens; mkdir -p $SCREENDIR; chmod 700 $SCREENDIR; rm -f /tmp/screen.out
screen -c /dev/null -dmS twin bash --norc
await 'screen -S twin -X stuff $'"'id -u > /tmp/screen.out\n'"
await '[ -s /tmp/screen.out ]'
screen -S twin -X quit
(sleep 3; for i in {1..20}; do sleep 1; echo exit; done) | TERM=xterm ssh -tt root@127.0.0.1 \
  "TERM=xterm SCREENDIR=$SCREENDIR screen -c /dev/null bash --norc" > /dev/null
