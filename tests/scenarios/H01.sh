# H01: commands are typed
# stage: behaviour
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: ls /tmp
#   shell_history.shell_command_execution_history.0.command_execution_time_iso_8601_ns: $time3
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo 'two  words' | cat
#   shell_history.shell_command_execution_history.0.command_execution_time_iso_8601_ns: $time2
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: for i in 1 2; do echo $i; done
#   shell_history.shell_command_execution_history.0.command_execution_time_iso_8601_ns: $time1
# expect: shell_command_executed x4

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act
types 'ls /tmp' "echo 'two  words' | cat" 'for i in 1 2; do' 'echo $i' 'done'; times
#: clean
. lib/terminal.sh
leave
