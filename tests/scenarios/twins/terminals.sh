# terminals: tmux, screens of their own, expect, script; bash's history as it is used

#: turn
tmux -L twins -f /dev/null new-session -d -x 80 -y 24 'bash --norc'
for i in 1 2 3; do tmux -L twins send-keys "id -u" Enter; tmux -L twins split-window 'sleep 1' ||
  true; sleep 0.5; done
tmux -L twins capture-pane -p > /dev/null; tmux -L twins kill-server
echo 'export HISTCONTROL=ignoreboth HISTSIZE=2000 HISTFILESIZE=4000' > /tmp/twin-rc
(sleep 1; echo 'ls /'; echo ' id'; echo history; sleep 1; echo exit) |
  script -qc 'bash --rcfile /tmp/twin-rc -i' /dev/null | grep -q history
expect -c 'spawn bash --norc; send "id -u\r"; expect 0; send "exit\r"; expect eof'
(sleep 3; echo exit) | TERM=xterm ssh -tt root@127.0.0.1 \
  'tmux -L remote -f /dev/null new-session "bash --norc"' > /dev/null
bash -c 'HISTFILE=/dev/null; set +o history; true'
