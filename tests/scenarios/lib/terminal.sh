# terminal [PROGRAM ARGUMENTS...]   starts a shell in a terminal, as $shell: $program or bash where
#                                   none is named; its startup file ends with $startup
# types LINE...                     types lines, each when the prompt is there
# times                             asks bash when it ran its last commands but this: $time1 is
#                                   the latest
# leave [LINE]                      ends it by a line, which is exit where none is given
export HOME=/tmp/typed
terminal() {
  [ $# -gt 0 ] || set -- ${program:-bash}
  rm -rf /tmp/typed; mkdir -m 777 /tmp/typed; mkfifo /tmp/typed/in
  printf 'PS1=@ready@; PS2=@ready@\n%s\n' "${startup:-}" > /tmp/typed/.bashrc
  python3 -c '
import os, pty, select, sys
lines = os.open("/tmp/typed/in", os.O_RDWR)
pid, terminal = pty.fork()
if not pid:
    os.close(lines)
    os.environ.update(PS1="@ready@", PS2="@ready@", TERM="dumb", ENV="/tmp/typed/.bashrc")
    os.execvp(sys.argv[1], sys.argv[1:])
said = b""
def until_ready():
    global said
    while b"@ready@" not in said:
        said += os.read(terminal, 4096)
    said = said.split(b"@ready@", 1)[1]
def note(name, text):
    with open("/tmp/typed/new", "w") as file: file.write(text)
    os.rename("/tmp/typed/new", "/tmp/typed/" + name)
until_ready()
note("shell", str(pid))
typed, rest = 0, b""
try:
    while True:
        rest += os.read(lines, 4096)
        while b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            os.write(terminal, line + b"\n")
            until_ready()
            typed += 1
            note("typed", str(typed))
except OSError:
    pass
os.waitpid(pid, 0)
note("left", "")
' "$@" < /dev/null > /dev/null 2>&1 &
  await '[ -s /tmp/typed/shell ]'
  fact shell "$(cat /tmp/typed/shell)"; fact typed 0
}
types() {
  for line; do
    printf '%s\n' "$line" > /tmp/typed/in
    typed=$((typed + 1))
    await '[ "$(cat /tmp/typed/typed 2>/dev/null)" = $typed ]'
    # The next line may take this one away again.
    scanned
  done
  fact typed $typed
}
times() {
  types "HISTTIMEFORMAT='%FT%T ' history 4 > /tmp/typed/said"
  n=3
  while read -r _ time _; do fact time$n "$time.000000000+00:00"; n=$((n - 1))
  done < /tmp/typed/said
}
leave() {
  printf '%s\n' "${1:-exit}" > /tmp/typed/in; await '[ -e /tmp/typed/left ]'; rm -rf /tmp/typed
}
