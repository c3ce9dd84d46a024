# A08: the kernel's number of forks is set back, and a foreign program starts meanwhile
# stage: shipped
# host: set $forks 1
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /opt/stranger
#   process.process_id: $pid
# allow: *
#
# The watcher takes the kernel for another one, and looks for it anew.

#: prepare
fact forks "$(awk '$3 == "total_forks" { print $1; exit }' /proc/kallsyms)"
#: act
act
/opt/stranger 600 & fact pid $!; seen; over $pid
