# F31: twenty files that matter change, and no descriptor shows it
# stage: shipped
# expect: file_content_change
#   file.file_path: /usr/bin/factor
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /usr/share/f31/tool.sh
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /opt/f31/tool
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /etc/f31
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /etc/pam.d/f31
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /etc/cron.daily/f31
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /var/spool/cron/crontabs/f31
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /root/.ssh/authorized_keys2
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /home/f31/.profile
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /usr/local/lib/f31.so
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /usr/sbin/f31
#   detection.reason: ~is new
# expect: file_content_change
#   file.file_path: /boot/f31
#   detection.reason: ~is new
# expect: file_content_change
#   file.file_path: /etc/sudoers.d/f31
#   detection.reason: ~is new
# expect: file_content_change
#   file.file_path: /usr/lib/systemd/system/f31.timer
#   detection.reason: ~is new
# expect: file_content_change
#   file.file_path: /usr/bin/tsort
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /usr/lib/f31.so
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /etc/f31.link
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /etc/systemd/system/f31.service
#   detection.reason: ~is new
# expect: file_content_change
#   file.file_path: /etc/f31.mount
#   detection.reason: ~names another file
# expect: file_content_change
#   file.file_path: /usr/bin/pinky
#   detection.reason: ~bytes, modified at
# allow: file_content_change
#   file.file_path: ~/usr/bin/
# allow: file_content_change
#   detection.reason: ~is new since
#
# By the renames, links and mounts of all usual tools, and by truncate(2).

#: prepare
mkdir -p /f31 /usr/share/f31 /opt/f31 /var/spool/cron/crontabs /root/.ssh /home/f31 /boot
mkdir -p /usr/local/lib /etc/pam.d /etc/cron.daily /etc/sudoers.d
for name in factor tsort pinky; do cp -p /usr/bin/$name /f31/$name.old; done
old='/usr/share/f31/tool.sh
/opt/f31/tool
/etc/f31
/etc/pam.d/f31
/etc/cron.daily/f31
/var/spool/cron/crontabs/f31
/root/.ssh/authorized_keys2
/home/f31/.profile
/usr/local/lib/f31.so
/usr/lib/f31.so
/etc/f31.mount'
for path in $old; do echo before > $path; done; chmod 755 /opt/f31/tool
ln -s /usr/bin/false /etc/f31.link
for number in {1..20}; do echo "after $number" > /f31/$number; chmod 755 /f31/$number; done
sleep 5
#: act
number=0
next() { number=$((number + 1)); new=/f31/$number; }
moved='/usr/bin/factor
/usr/share/f31/tool.sh
/opt/f31/tool
/etc/f31
/etc/pam.d/f31
/etc/cron.daily/f31
/var/spool/cron/crontabs/f31
/root/.ssh/authorized_keys2
/home/f31/.profile
/usr/local/lib/f31.so
/usr/sbin/f31
/boot/f31
/etc/sudoers.d/f31
/usr/lib/systemd/system/f31.timer'
act
for path in $moved; do next; mv -f $new $path; done
next; ln -f $new /usr/bin/tsort; next; ln -f $new /usr/lib/f31.so
ln -sfn /usr/bin/true /etc/f31.link
ln -s /usr/lib/systemd/system/getty@.service /etc/systemd/system/f31.service
next; mount --bind $new /etc/f31.mount
python3 -c 'import os; os.truncate("/usr/bin/pinky", 100)'
sleep 6
#: clean
umount /etc/f31.mount
for name in factor tsort pinky; do mv -f /f31/$name.old /usr/bin/$name; done
rm -r /f31 /etc/f31* /etc/*/f31* /etc/*/*/f31* /usr/*/f31* /usr/local/*/f31* /opt/f31 /boot/f31
rm -r /usr/lib/systemd/system/f31.timer /var/spool/cron/crontabs/f31 /root/.ssh/authorized_keys2
rm -r /home/f31
