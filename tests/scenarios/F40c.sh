# F40c: files are written as other programs do that rename: a crontab, a unit, a key, from elsewhere
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /var/spool/cron/crontabs/f40c
#   file_descriptor.file_descriptor_previous_name: /var/spool/cron/crontabs/tmp.w9xTVZ
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/systemd/system/f40c.service
#   file_descriptor.file_descriptor_previous_name: /etc/systemd/system/.f40c.service123
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /root/.ssh/f40c
#   file_descriptor.file_descriptor_previous_name: /root/.ssh/tmpab12
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f40c
#   file_descriptor.file_descriptor_previous_name: /usr/local/bin/f40c.new
# expect: file_content_change x0

#: prepare
mkdir -p /var/spool/cron/crontabs /etc/systemd/system /root/.ssh /usr/local/bin
sleep 4
#: act
act
while read -r new last; do
  (exec 7> $new; scanned; echo "# f40c" >&7; scanned; exec 7>&-; mv -f $new $last) & wait $!
done << END
/var/spool/cron/crontabs/tmp.w9xTVZ /var/spool/cron/crontabs/f40c
/etc/systemd/system/.f40c.service123 /etc/systemd/system/f40c.service
/root/.ssh/tmpab12 /root/.ssh/f40c
/usr/local/bin/f40c.new /etc/f40c
END
sleep 4
#: clean
rm /var/spool/cron/crontabs/f40c /etc/systemd/system/f40c.service /root/.ssh/f40c /etc/f40c
