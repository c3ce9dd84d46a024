# F30: twenty files that matter are written by descriptors that scans see
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/passwd
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/sudoers.d/f30
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/pam.d/f30
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/ld.so.conf.d/f30.conf
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/cron.d/f30
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /var/spool/cron/crontabs/f30
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/systemd/system/f30.service
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /usr/lib/systemd/system/f30.timer
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /run/systemd/system/f30.service
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /root/.ssh/authorized_keys
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /home/f30/.bashrc
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/profile.d/f30.sh
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /usr/bin/ptx
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /usr/lib/x86_64-linux-gnu/libf30.so
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /usr/local/bin/f30
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /boot/f30
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /usr/share/f30/run.py
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /opt/f30/tool
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /var/lib/docker/overlay2/f30/diff/etc/passwd
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /srv/f30.so
# allow: file_content_change
# allow: foreign_binary_executed
#   elf_file.elf_file_path: /srv/f30.so
# allow: foreign_library_loaded
#   elf_file.elf_file_path: /srv/f30.so
#
# All kinds: accounts, sudo, PAM, the loader, crontabs, units, keys, start files
# of shells, programs, libraries, scripts, the start of the machine, a container's layer, and a file
# that is mapped to run.

#: prepare
. lib/watched_paths.sh
for path in $paths; do mkdir -p "${path%/*}"; done
cp -p /etc/passwd /f30.passwd; cp -p /usr/bin/ptx /f30.ptx
echo before > /opt/f30/tool; chmod 755 /opt/f30/tool; cp /usr/bin/true /srv/f30.so
sleep 4
#: act
. lib/watched_paths.sh
python3 -c '
import mmap, time
file = open("/srv/f30.so", "rb")
area = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
time.sleep(600)' & fact mapper $!
await 'grep -q f30.so /proc/$mapper/maps'; scanned
act
for path in $paths; do
  (exec 7>>"$path"; scanned; echo "# f30" >&7; scanned; exec 7>&-; scanned) & wait $!
done
over $mapper
sleep 4
#: clean
mv -f /f30.passwd /etc/passwd; mv -f /f30.ptx /usr/bin/ptx
rm -r /etc/*/f30* /etc/*/*/f30* /var/spool/cron/crontabs/f30 /usr/lib/*/libf30.so /boot/f30
rm -r /usr/lib/systemd/system/f30.timer /run/systemd/system/f30.service /root/.ssh/authorized_keys
rm -r /home/f30 /usr/local/bin/f30 /usr/share/f30 /opt/f30 /var/lib/docker /srv/f30.so
