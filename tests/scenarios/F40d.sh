# F40d: temporary files that do not matter by their names become files that do: vipw, visudo, sed -i
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/passwd
#   file_descriptor.file_descriptor_previous_name: /etc/passwd.edit
#   process.process_id: $pid
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/sudoers
#   file_descriptor.file_descriptor_previous_name: /etc/sudoers.tmp
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/hostname
#   file_descriptor.file_descriptor_previous_name: /etc/.#hostname4f1c09ab
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /root/.bashrc
#   file_descriptor.file_descriptor_previous_name: /root/sedAb12cd
# expect: file_content_change x0

#: prepare
touch /etc/sudoers /etc/hostname /root/.bashrc
for name in /etc/passwd /etc/sudoers /etc/hostname /root/.bashrc; do
  cp -p $name /root/f40d.${name##*/}
done
sleep 4
#: act
act
while read -r new last seconds; do
  (exec 7> $new; scanned; { cat $last; echo "# f40d"; } >&7; scanned; exec 7>&-; sleep $seconds
  mv -f $new $last) & [[ $last == /etc/passwd ]] && fact pid $!; wait $!
done << END
/etc/passwd.edit /etc/passwd 3
/etc/sudoers.tmp /etc/sudoers 0.5
/etc/.#hostname4f1c09ab /etc/hostname 0
/root/sedAb12cd /root/.bashrc 0
END
sleep 6
#: clean
for name in /etc/passwd /etc/sudoers /etc/hostname /root/.bashrc; do
  mv -f /root/f40d.${name##*/} $name
done
