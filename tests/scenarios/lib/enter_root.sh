# What is done before each row: the roots are unpacked once, and have the guest's own /tmp and /dev.
# ROOT is replaced.
[ -e /shells ] || { mkdir /shells; busybox tar xf /opt/shells.tar -C /shells; }
(
  cd /shells/ROOT; mkdir -p tmp dev
  mountpoint -q tmp || { mount --bind /tmp tmp; mount --bind /dev dev; }
)
program='chroot /shells/ROOT /bin/bash'
