# P25: a library is loaded before all others, by the loader's file
# stage: behaviour
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/ld.so.preload
#   process.process_id: $writer
# expect: new_file_mapped
#   process_memory.file_path: /tmp/p25.so
#   process_memory.memory_permissions: r-xp
#   process.process_id: $pid

#: prepare
cp "$(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1)" /tmp/p25.so
#: act
(exec 7>/etc/ld.so.preload; scanned; echo /tmp/p25.so >&7; act) & fact writer $!
wait $writer
sleep 600 & fact pid $!; seen; over $pid
#: clean
rm /etc/ld.so.preload /tmp/p25.so
