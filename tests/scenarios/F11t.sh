# F11t: twins: modes, owners, access times, reading, another name, and files that do not matter
# stage: shipped
# expect: file_descriptor_open
#   process.process_id: $mark
#   file_descriptor.file_descriptor_index: 8
# expect: file_content_change x0

#: prepare
sleep 2
#: act
act
chmod 700 /usr/bin/tac; chmod 755 /usr/bin/tac; chown 0:0 /usr/bin/tac
touch -a /usr/bin/tac; tac /etc/hostname > /tmp/f11t
mv /tmp/f11t /tmp/f11t.new; ln /tmp/f11t.new /tmp/f11t.link; mkdir /etc/f11t; rmdir /etc/f11t
mv /usr/bin/tac /usr/bin/tac.old; ln /usr/bin/tac.old /usr/bin/tac; rm /usr/bin/tac.old
touch /etc/f11t.lock
sleep 4
(exec 8</etc/hostname; stay) & fact mark $!; seen; over $mark
#: clean
rm /tmp/f11t* /etc/f11t.lock
