# A03: a foreign program starts in a scope that its user named like a container
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: ~stranger
#   process.process_id: $pid

#: prepare
. lib/covers.sh
user_scope a03
#: act
. lib/covers.sh
act
in_scope /opt/stranger 600
seen; scanned; over $pid
#: clean
await "rmdir $group"
