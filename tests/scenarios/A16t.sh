# A16t: twin: each process loads a library of the system, by the loader's file
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/ld.so.preload
#   process.process_id: $writer
# expect: foreign_library_loaded x0
# expect: alerts_summed_up x0
# expect: new_file_mapped
#   process_memory.file_path: ~/libz.so.
#   process_memory.memory_permissions: r-xp
#   process.process_id: $pid

#: act
library=$(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1)
(exec 7>/etc/ld.so.preload; scanned; echo $library >&7; act) & fact writer $!
wait $writer
for _ in {1..20}; do sleep 0.2; done
sleep 600 & fact pid $!
rm /etc/ld.so.preload
seen; scanned; over $pid
#: clean
rm -f /etc/ld.so.preload
