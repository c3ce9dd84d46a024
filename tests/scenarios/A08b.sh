# A08b: contact is lost, because process 1 seems to have begun anew, while a foreign program starts
# stage: shipped
# host: postpone 1 1000
# expect: process_created
#   process.process_id: $pid
#   process.process_began_while_not_watched: true
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /opt/stranger
#   process.process_id: $pid
#   process.process_began_while_not_watched: true
#
# The watcher takes this for another boot, and attaches anew.

#: prepare
. lib/covers.sh
while_lost a08b /opt/stranger 600
#: act
act
await '[ -s /run/a08b ]'; fact pid "$(cat /run/a08b)"; seen; over $pid
#: clean
rm /run/a08b
