#!/bin/sh
# What `cargo xtask fresh` runs in namespaces of its own: makes the folder ROOT a machine whose root
# is no mount, and runs a command there as WHO: root, contained (what containers may by default,
# without CAP_SYS_ADMIN), user, or odd (root with uncommon settings).
set -eu
root=$1 who=$2 rustup=$3
shift 3

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 devices "$root/dev"
for name in null zero full random urandom tty; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 terminals "$root/dev/pts"
mount -t tmpfs -o mode=1777 shared "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"
done
mkdir -p "$root/opt/rustup"
mount --bind "$rustup" "$root/opt/rustup"
mount -o remount,bind,ro "$root/opt/rustup"

home=/root
before=
case $who in
contained)
    caps=chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw
    caps=$caps,sys_chroot,mknod,audit_write,setfcap
    caps=-all,+$(echo "$caps" | sed 's/,/,+/g')
    before="setpriv --inh-caps=-all --bounding-set=$caps"
    ;;
user)
    home=/home/user
    before="setpriv --reuid=1000 --regid=1000 --clear-groups"
    ;;
odd)
    before="nice -n 10"
    umask 077
    mkdir -p "$root/tmp/odd"
    mount -t tmpfs -o mode=1777 odd "$root/tmp/odd"
    export TMPDIR=/tmp/odd
    export LANG=C LC_ALL=C
    ;;
esac
path=$home/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ "$who" = user ]; then
    path=$home/.cargo/bin:/usr/local/bin:/usr/bin:/bin
fi
# shellcheck disable=SC2086 # these are words
exec chroot "$root" $before env -i HOME="$home" PATH="$path" TERM=dumb RUSTUP_HOME=/opt/rustup \
    ${TMPDIR:+TMPDIR="$TMPDIR" LANG=C LC_ALL=C} \
    sh -c 'cd /srv/panoptes && exec "$@"' sh "$@"
