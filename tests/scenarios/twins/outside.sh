# outside: logins from another machine, with and without a terminal, and files by scp and sftp

#: visit
client="-q -i $key -o ConnectTimeout=30 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
guest=root@127.0.0.1
login() { TERM=xterm ssh $client -p $port -tt $guest; }
leave() { for i in {1..20}; do sleep 1; echo exit; done; }
ssh $client -p $port -n $guest 'id -u; ls / | wc -l' | grep -q '^0'
(sleep 3; echo 'ls /; id'; leave) | login | grep uid=0
echo 'id -u; sleep 1' | ssh $client -p $port $guest bash -s | grep -q 0
scp $client -P $port $guest:/etc/hostname $key.copy; grep -q guest $key.copy
echo 'ls /etc' | sftp $client -P $port -b - $guest | grep -q hostname
(sleep 3; echo 'tmux -L outside -f /dev/null new-session'; sleep 3; echo id; leave) | login
