# H14: twin: a shell's forks and its successors do not report its commands again
# stage: behaviour
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: (sleep 0.4; echo in a subshell)
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo become
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: bash
# expect: shell_command_executed
#   shell_history.shell_command_execution_history.0.command_line: echo inner
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo last
# expect: shell_command_executed at least 7
#
# An `exec` or `exit` may be gone with its shell before a scan sees it.

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act
types '(sleep 0.4; echo in a subshell)' 'exec bash'
types 'echo become' 'bash'
types 'echo inner' exit 'setpriv --reuid 1000 --regid 1000 --clear-groups bash'
types 'echo other' exit 'echo last'
#: clean
. lib/terminal.sh
leave
