# F09b: twin: libraries are upgraded to newer ones that were shipped too
# stage: upgraded
# expect: new_file_mapped
#   process_memory.file_path: $library
#   process_memory.memory_permissions: r-xp
#   process.process_id: $new
# allow: file_descriptor_file_content_change

#: prepare
python3 -c 'import time; time.sleep(6000)' > /dev/null 2>&1 & fact old $!
sleep 6000 > /dev/null 2>&1 & fact sleeper $!; kept $old $sleeper
library=$(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1); fact library $library
await 'grep -q $library /proc/$old/maps && grep -q libc.so /proc/$sleeper/maps'
#: act
dpkg -i /opt/zlib1g-newer.deb /opt/libc6-newer.deb
grep -q 'libz.*deleted' /proc/$old/maps
grep -q 'libc.so.*deleted' /proc/$sleeper/maps
fact inode "$(stat -c %i $library)"
act
python3 -c 'import time; time.sleep(600)' & fact new $!
seen; scanned; over $new
#: clean
dpkg -i /opt/zlib1g-older.deb /opt/libc6-older.deb 2>&1
