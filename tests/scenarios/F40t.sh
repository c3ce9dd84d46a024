# F40t: twins: locks and copies of accounts, an editor that saves nothing, and files that are gone
# stage: shipped
# expect: file_descriptor_close at least 6 distinct file_descriptor.file_descriptor_name
#   file_descriptor.file_descriptor_index: 7
# expect: file_descriptor_file_content_change x0
# expect: file_content_change x0

#: prepare
echo before > /etc/f40t
sleep 4
#: act
act
for name in passwd.2477 shadow.2477 passwd.edit sudoers.tmp .f40t.swp; do
  (exec 7> /etc/$name; scanned; echo 2477 >&7; scanned; exec 7>&-; rm /etc/$name) & wait $!
done
(exec 7> /etc/passwd.2478; scanned; echo 2478 >&7; scanned; exec 7>&-
ln /etc/passwd.2478 /etc/passwd.lock; rm /etc/passwd.2478; sleep 3; rm /etc/passwd.lock) & wait $!
(exec 7> /etc/f40t.new; scanned; echo after >&7; scanned; exec 7>&-; rm /etc/f40t.new) & wait $!
(exec 7<> /etc/f40t; scanned; exec 7>&-) & wait $!
ln -s root@guest.1 /etc/.#f40t; sleep 1; rm /etc/.#f40t
touch -a /etc/f40t; chmod 600 /etc/f40t
sleep 4
#: clean
rm /etc/f40t
