# sftp: files by sftp, and by scp, which uses the same server

#: turn
rm -f /tmp/sftp-*
printf '%s\n' 'put /etc/hostname /tmp/sftp-there' 'get /tmp/sftp-there /tmp/sftp-back' \
  'ls -l /tmp' | sftp -q -b - root@127.0.0.1 > /dev/null
cmp /etc/hostname /tmp/sftp-back
scp -q root@127.0.0.1:/tmp/sftp-there /tmp/sftp-scp < /dev/null; cmp /etc/hostname /tmp/sftp-scp
