# H11d: history -c, followed by a list of other commands
# stage: behaviour
# expect: shell_history_cleared
#   process.process_id: $shell
#   detection.reason: ~(history -c)
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo end
# expect: shell_command_executed at least 1

#: prepare
. lib/terminal.sh
terminal; types 'echo 1' 'echo 2' 'echo 3' 'echo 4' 'echo 5' 'echo 6'
#: act
. lib/terminal.sh
act
types 'history -c; printf "a\nb\n" > ~/other; history -r ~/other' 'echo end'
#: clean
. lib/terminal.sh
leave
