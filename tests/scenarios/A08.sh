# A08: the kernel's number of forks is set back, and a foreign program starts meanwhile
# stage: shipped
# host: set $forks 1
# expect: clock_tampered
#   record.severity: HIGH
#   detection.reason: ~went back
# expect: process_created
#   process.process_id: $pid
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /opt/stranger
#   process.process_id: $pid
#
# A restored machine has counted fewer forks, too, but its clock is an earlier one.

#: prepare
fact forks "$(awk '$3 == "total_forks" { print $1; exit }' /proc/kallsyms)"
#: act
act
/opt/stranger 600 & fact pid $!; seen; over $pid
