# F11g: a file of before is moved to where jobs are found
# stage: shipped
# expect: file_content_change
#   file.file_path: /etc/cron.d/f11g
#   file.file_inode_number: $inode
#   detection.reason: ~is new since

#: prepare
mkdir -p /etc/cron.d
echo '* * * * * root /tmp/x' > /f11g; touch -d 2020-01-01 /f11g
fact inode "$(stat -c %i /f11g)"
sleep 2
#: act
act
mv /f11g /etc/cron.d/f11g
sleep 4
#: clean
rm /etc/cron.d/f11g
