# C05: twin: two hundred containers, one after the other
# stage: shipped
# expect: container_started x200
# expect: container_terminated x200

#: prepare
. lib/containers.sh
image
#: act
act
group() { printf /sys/fs/cgroup/docker/b2%062x $1; }
for first in {1..200..20}; do
  runs=
  for i in $(seq $first $((first + 19))); do
    mkdir -p "$(group $i)"
    (echo 0 > "$(group $i)"/cgroup.procs
     exec unshare --mount chroot /run/shop/base /bin/sleep 600) & runs="$runs $!"
  done
  for pid in $runs; do await 'begins $pid /bin/sleep'; done
  scanned; over $runs
  for i in $(seq $first $((first + 19))); do rmdir "$(group $i)"; done
done
