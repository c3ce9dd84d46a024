# A04: a foreign program starts when long names have filled the room for names
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /opt/stranger
#   process.process_id: $pid
#   process.process_executable_path: /opt/stranger
#   process.process_command_line_arguments: /opt/stranger 600
# allow: file_descriptor_file_content_change

#: prepare
. lib/covers.sh
long_names /tmp/a04
#: act
act
/opt/stranger 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm -r /tmp/a04 /tmp/a04.ready
