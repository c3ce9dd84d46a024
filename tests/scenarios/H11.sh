# H11: twin: a list that is full forgets the oldest commands
# stage: behaviour
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo 4
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo 9
# expect: shell_command_executed x6

#: prepare
. lib/terminal.sh
startup=HISTSIZE=4; terminal; types 'echo 1' 'echo 2' 'echo 3'
#: act
. lib/terminal.sh
act; types 'echo 4' 'echo 5' 'echo 6' 'echo 7' 'echo 8' 'echo 9'
#: clean
. lib/terminal.sh
leave
