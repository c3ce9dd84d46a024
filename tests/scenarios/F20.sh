# F20: a file on an overlay, by the overlay's path
# stage: shipped
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_name: /mnt/f20/file
# expect: file_descriptor_open x0
#   file_descriptor.file_descriptor_name: ~/tmp/f20/

#: prepare
mkdir -p /tmp/f20/lower /tmp/f20/upper /tmp/f20/work /mnt/f20
echo layer > /tmp/f20/lower/file
mount -t overlay overlay -o lowerdir=/tmp/f20/lower,upperdir=/tmp/f20/upper,workdir=/tmp/f20/work \
  /mnt/f20
#: act
act
(exec 7</mnt/f20/file; stay) & fact pid $!; seen; scanned; over $pid
#: clean
umount /mnt/f20; rm -r /tmp/f20
