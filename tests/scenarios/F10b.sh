# F10b: a shipped script with other content
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /usr/bin/ldd
#   process.process_id: $pid
# allow: foreign_binary_executed_file_size_mismatch
#   elf_file.elf_file_path: /usr/bin/ldd
#   process.process_id: $pid

#: prepare
cp -p /usr/bin/ldd /tmp/f10b
printf '#!/bin/bash\nread -r _ <> /run/pace/never\nexit 0\n' > /usr/bin/ldd
#: act
act
/usr/bin/ldd & fact pid $!; seen; over $pid
#: clean
cp -p /tmp/f10b /usr/bin/ldd; rm /tmp/f10b
