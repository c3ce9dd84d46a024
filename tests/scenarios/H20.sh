# H20: commands are typed into zsh
# stage: equipped
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo 'two  words'
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: ~for i in 1 2
# expect: shell_command_executed x2

#: prepare
. lib/terminal.sh
terminal zsh -f -o no_zle
types 'HISTFILE=/tmp/typed/.zsh_history HISTSIZE=100 SAVEHIST=100' 'echo first'
#: act
. lib/terminal.sh
act
types "echo 'two  words'" 'for i in 1 2' 'do echo $i' 'done'
#: clean
. lib/terminal.sh
leave
