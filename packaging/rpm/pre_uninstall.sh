# Before the files are removed. $1 is the number of versions that stay: none after a removal.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl --system --no-reload disable --now panoptes.service panoptes-flow.service || :
fi
