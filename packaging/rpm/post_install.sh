# After an installation and an upgrade: users, folders, and systemd's view of the units. Neither
# service is enabled or started: the administrator decides what they watch.
systemd-sysusers panoptes.conf || :
systemd-tmpfiles --create panoptes.conf || :
if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload || :
fi
