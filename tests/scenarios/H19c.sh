# H19c: twin: a program takes answers out of its list, and has another list at another prompt
# stage: behaviour
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: end
# expect: shell_command_executed at least 4

#: prepare
. lib/terminal.sh
terminal python3 -c '
import readline
prompt = "@ready@"
while True:
    line = input(prompt)
    if line == "exit":
        break
    if line == "take":
        for _ in range(2):
            readline.remove_history_item(0)
    if line == "other":
        readline.clear_history()
        prompt = "other @ready@"
'
types one two three four
#: act
. lib/terminal.sh
act
types five take six other end
#: clean
. lib/terminal.sh
leave
