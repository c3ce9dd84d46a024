# F30t: twins: forty changes that do not matter
# stage: shipped
# expect: file_descriptor_close at least 20 distinct file_descriptor.file_descriptor_name
#   file_descriptor.file_descriptor_index: 7
# expect: file_descriptor_file_content_change x0
# expect: file_content_change x0
#
# Twenty are written by descriptors that scans see, fourteen change by renames, and six are of files
# that matter: mode, owner, another name, access time, an empty new file, a temporary file.

#: prepare
. lib/ordinary_paths.sh
for path in $paths $moved; do mkdir -p "${path%/*}"; done
[ ! -e /etc/resolv.conf ] || cp -p /etc/resolv.conf /f30t.resolv
sleep 4
#: act
. lib/ordinary_paths.sh
act
for path in $paths; do
  (exec 7>>"$path"; scanned; echo "# f30t" >&7; scanned; exec 7>&-; scanned) & wait $!
done
for path in $moved; do echo after > /tmp/f30t.new; mv -f /tmp/f30t.new $path; done
chmod 700 /usr/bin/tac; chmod 755 /usr/bin/tac
chown 1:1 /usr/bin/paste; chown 0:0 /usr/bin/paste
ln /usr/bin/split /usr/bin/split.old; rm /usr/bin/split.old
touch -a /usr/bin/fold
: > /etc/f30t.lock
(exec 7> /etc/f30t.part; rm /etc/f30t.part; scanned; echo part >&7; scanned) & wait $!
sleep 6
#: clean
[ ! -e /f30t.resolv ] || mv -f /f30t.resolv /etc/resolv.conf
rm -r /var/lib/f30t /home/f30t /usr/share/f30t /usr/share/doc/f30t /opt/f30t /srv/f30t
rm /etc/f30t.lock
