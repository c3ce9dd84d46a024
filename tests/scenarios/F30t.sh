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
paths='/tmp/f30t
/var/tmp/f30t
/var/log/f30t.log
/var/lib/f30t/data
/var/cache/f30t
/var/www/f30t.html
/home/f30t/notes
/home/f30t/.bash_history
/home/f30t/.ssh/known_hosts
/home/f30t/src/run.sh
/root/.viminfo
/etc/adjtime
/etc/lvm/archive/f30t
/etc/.f30t.swp
/usr/share/f30t/data
/opt/f30t/data
/run/f30t.pid
/dev/shm/f30t
/boot/grub/grubenv
/var/lib/docker/overlay2/f30t/diff/var/log/f30t
/tmp/f30t.moved
/var/lib/f30t/moved
/var/log/f30t.moved
/home/f30t/moved
/home/f30t/.config/f30t.ini
/usr/share/f30t/moved
/usr/share/doc/f30t
/opt/f30t/moved
/usr/lib/python3/__pycache__/f30t.pyc
/run/f30t.moved
/etc/passwd-
/etc/resolv.conf
/var/spool/cron/atspool/f30t
/srv/f30t'
for path in $paths; do mkdir -p "${path%/*}"; done
[ ! -e /etc/resolv.conf ] || cp -p /etc/resolv.conf /f30t.resolv
sleep 4
#: act
paths='/tmp/f30t
/var/tmp/f30t
/var/log/f30t.log
/var/lib/f30t/data
/var/cache/f30t
/var/www/f30t.html
/home/f30t/notes
/home/f30t/.bash_history
/home/f30t/.ssh/known_hosts
/home/f30t/src/run.sh
/root/.viminfo
/etc/adjtime
/etc/lvm/archive/f30t
/etc/.f30t.swp
/usr/share/f30t/data
/opt/f30t/data
/run/f30t.pid
/dev/shm/f30t
/boot/grub/grubenv
/var/lib/docker/overlay2/f30t/diff/var/log/f30t'
moved='/tmp/f30t.moved
/var/lib/f30t/moved
/var/log/f30t.moved
/home/f30t/moved
/home/f30t/.config/f30t.ini
/usr/share/f30t/moved
/usr/share/doc/f30t
/opt/f30t/moved
/usr/lib/python3/__pycache__/f30t.pyc
/run/f30t.moved
/etc/passwd-
/etc/resolv.conf
/var/spool/cron/atspool/f30t
/srv/f30t'
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
