# H18: twin: another file in the home, a longer history, patterns for some commands
# stage: behaviour
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo end
# expect: shell_command_executed x8

#: prepare
. lib/terminal.sh
terminal; mkdir -m 777 /tmp/typed/.h; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act
types 'HISTFILE=/tmp/typed/.other' HISTSIZE=100000 HISTFILESIZE=-1
types 'HISTIGNORE="ls:cd:exit"' 'HISTIGNORE="&:[ \t]*:[bf]g:pwd"' 'HISTSIZE=0x0'
types 'HISTFILE=/tmp/typed/.h/x' 'echo end'
#: clean
. lib/terminal.sh
leave
