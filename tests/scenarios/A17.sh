# A17: a foreign program in a loop, and another one among its runs
# stage: shipped
# expect: foreign_binary_executed x8
#   elf_file.elf_file_path: /tmp/a17
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /tmp/a17.other
#   process.process_id: $pid
# expect: alerts_summed_up at least 1
#   record.severity: HIGH
#   system_activity.activity: foreign_binary_executed
# allow: alerts_summed_up
#
# The content of both is the same, but they are two files.

#: prepare
cp /opt/stranger /tmp/a17; cp /opt/stranger /tmp/a17.other
#: act
act
for _ in {1..20}; do /tmp/a17 1; done
/tmp/a17.other 600 & fact pid $!
for _ in {1..10}; do /tmp/a17 1; done
seen; over $pid
#: clean
rm /tmp/a17 /tmp/a17.other
