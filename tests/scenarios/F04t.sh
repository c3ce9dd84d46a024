# F04t: twin: shipped programs by links, and by the dynamic loader
# stage: shipped
# expect: process_created
#   process.process_id: $link
# expect: process_created
#   process.process_id: $applet
# expect: process_created
#   process.process_id: $loaded
# expect: process_created
#   process.process_id: $other

#: prepare
ln -s /usr/bin/sleep /tmp/f04t
#: act
act
/tmp/f04t 600 & fact link $!
busybox sleep 600 & fact applet $!
/lib64/ld-linux-x86-64.so.2 /usr/bin/sleep 600 & fact loaded $!
/sbin/../bin/nc -l -p 7100 & fact other $!
for pid in $link $applet $loaded $other; do await '! [ /proc/$pid/exe -ef /bin/bash ]'; done
seen; scanned; over $link $applet $loaded $other
#: clean
rm /tmp/f04t
