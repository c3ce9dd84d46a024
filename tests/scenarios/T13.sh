# T13: twin: tmux, from a login by ssh
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd)
#: act
. lib/logins.sh
act
(hold; echo exit) | TERM=xterm ssh -tt -p 4502 root@127.0.0.1 \
  'tmux -L t13 new-session "bash --norc"' > /dev/null 2>&1 &
who shell 'bash --norc'
await 'at $shell 0 /dev/pts/*'; pgrep tmux > /dev/null
finish $shell
#: clean
kill $server; tmux -L t13 kill-server 2> /dev/null || true
