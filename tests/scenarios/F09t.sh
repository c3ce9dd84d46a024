# F09t: twin: a mapped library is replaced by the same one
# stage: shipped
# expect: new_file_mapped
#   process.process_id: $new
#   process_memory.file_path: $library
#   process_memory.memory_permissions: r-xp
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: $library.new
# allow: file_content_change
#   file.file_path: ~$library

#: prepare
library=$(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1); fact library $library
cp -p $library $library.new
#: act
python3 -c 'import zlib, time; time.sleep(600)' & fact old $!
await 'grep -q $library /proc/$old/maps'; scanned
act
mv $library.new $library
python3 -c 'import zlib, time; time.sleep(600)' & fact new $!
seen; scanned; over $old $new
