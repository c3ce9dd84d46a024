# A07: the kernel's clock is stopped, and a foreign program starts
# stage: shipped
# host: set $clock 1
# undo: set $clock 0
# expect: clock_tampered
#   record.severity: HIGH
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /opt/stranger
#   process.process_id: $pid
# allow: coverage_degraded
#
# A variable that the kernel sets for a suspended machine: its timekeeping stands still.

#: prepare
fact clock "$(awk '$3 == "timekeeping_suspended" { print $1; exit }' /proc/kallsyms)"
#: act
act
/opt/stranger 600 & fact pid $!; seen 2; over $pid
