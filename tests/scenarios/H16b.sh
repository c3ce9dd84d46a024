# H16b: HISTFILE is below /proc
# stage: behaviour
# expect: shell_history_disabled
#   process.process_id: $shell
#   detection.reason: ~: HISTFILE=/proc/self/fd/9
#   detection.confidence: medium
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: true
# expect: shell_command_executed x2

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act; types HISTFILE=/proc/self/fd/9 true
#: clean
. lib/terminal.sh
leave
