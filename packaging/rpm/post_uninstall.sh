# After the files were removed, also those of an older version after an upgrade: $1 versions stay.
# An upgrade restarts the services that run. Logs, state and users stay.
if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload || :
    if [ "$1" -ge 1 ]; then
        systemctl --system try-restart panoptes.service panoptes-flow.service || :
    fi
fi
