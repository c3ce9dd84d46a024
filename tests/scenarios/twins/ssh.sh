# ssh: logins and commands by ssh, with and without a terminal; files by scp

#: turn
ssh -n root@127.0.0.1 'id -u; ls / | wc -l'
(sleep 1; echo 'ls /; id'; sleep 1; echo exit) | TERM=dumb ssh -tt root@127.0.0.1
echo 'id -u; sleep 1' | ssh root@127.0.0.1 bash -s
scp -O -q /etc/hostname root@127.0.0.1:/tmp/scp-copy; cmp /etc/hostname /tmp/scp-copy
tar -c /etc/ssh 2> /dev/null | ssh root@127.0.0.1 'cat > /tmp/backup.tar'
tar -t < /tmp/backup.tar | grep -q ssh/moduli
