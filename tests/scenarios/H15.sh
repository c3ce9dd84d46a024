# H15: twin: dash and busybox have histories of their own, or none
# stage: behaviour
# expect: process_created at least 1
#   process.process_parent_process_id: $shell
# expect: shell_command_executed x0

#: prepare
. lib/terminal.sh
terminal dash -i; types 'set +o nolog' 'echo one'
#: act
. lib/terminal.sh
act
types 'echo two' 'busybox ash -i' 'unset HISTFILE' 'HISTSIZE=0' exit
fact pid $shell
#: clean
. lib/terminal.sh
leave
