# H02b: twin: as distributions have it, bash forgets what begins with a space
# stage: behaviour
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: true
# expect: shell_command_executed

#: prepare
. lib/terminal.sh
startup=HISTCONTROL=ignoreboth; terminal; types 'echo first'
#: act
. lib/terminal.sh
act; types ' id -u' true true
#: clean
. lib/terminal.sh
leave
