# H12: twin: shells into which nobody types keep no history
# stage: behaviour
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo end
# expect: shell_command_executed

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act
bash -c 'unset HISTFILE; HISTSIZE=0; set +o history; touch /tmp/typed/1
read -r _ <> /run/pace/never' & one=$!
echo 'set -o history; set +o history; touch /tmp/typed/2; read -r _ <> /run/pace/never' \
  > /tmp/typed/script
bash /tmp/typed/script & two=$!
await '[ -e /tmp/typed/1 ] && [ -e /tmp/typed/2 ]'; scanned; over $one $two
types 'echo end'
#: clean
. lib/terminal.sh
leave
