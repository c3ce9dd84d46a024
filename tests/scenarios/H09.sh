# H09: twin: the history's file is removed, and bash saves to it later
# stage: behaviour
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: rm ~/.bash_history
# expect: shell_command_executed x4
# allow: file_content_change
#   file.file_path: ~/.bash_history

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act
types 'history -a' 'rm ~/.bash_history' 'ln -sf /dev/null ~/.bash_history' 'echo > ~/.bash_history'
#: clean
. lib/terminal.sh
leave
