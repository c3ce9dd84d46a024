# H11b: twin: a list is made smaller
# stage: behaviour
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo 7
# expect: shell_command_executed x5

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act; types 'echo third' HISTSIZE=2 'echo 5' 'echo 6' 'echo 7'
#: clean
. lib/terminal.sh
leave
