# F40b: accounts are written as useradd does: one record a file, by its last name, and none of locks
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/passwd
#   file_descriptor.file_descriptor_previous_name: /etc/passwd+
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/group
#   file_descriptor.file_descriptor_previous_name: /etc/group+
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/subuid
#   file_descriptor.file_descriptor_previous_name: /etc/subuid+
# expect: file_content_change x0

#: prepare
echo user:100000:65536 > /etc/subuid
for name in passwd group subuid; do cp -p /etc/$name /root/f40b.$name; done
sleep 4
#: act
act
for name in passwd group subuid; do
  (exec 7> /etc/$name.$BASHPID; scanned; echo -n $BASHPID >&7; scanned; exec 7>&-
  ln /etc/$name.$BASHPID /etc/$name.lock; rm /etc/$name.$BASHPID) & wait $!
done
for name in passwd group subuid; do
  cp -p /etc/$name /etc/$name-
  (exec 7> /etc/$name+; scanned; { cat /etc/$name; echo "art:x:1001:"; } >&7; scanned; exec 7>&-
  mv -f /etc/$name+ /etc/$name) & wait $!
done
rm /etc/passwd.lock /etc/group.lock /etc/subuid.lock
sleep 4
#: clean
for name in passwd group subuid; do mv -f /root/f40b.$name /etc/$name; rm /etc/$name-; done
rm /etc/subuid
