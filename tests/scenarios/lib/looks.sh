# who NAME PATTERN    finds a process: $NAME
# at PID FD PATTERN   whether a descriptor is that
# same PID FD PID FD  whether two descriptors are the same
# hold                lasts until the scenario is over, or until let_all, in this script and in
#                     those that it starts; a shell elsewhere runs $pause, a program looks for $hold
# Words are no patterns of file names here.
set -f
[ -n "${hold:-}" ] || { fact hold /tmp/hold-$$; mkfifo $hold; }
export hold
pause='read -r _ < $hold || true'
hold() { eval "$pause"; }
who() { await "$1=\$(pgrep -nxf -- '$2') && [ \$$1 -gt $$ ]"; fact $1 "${!1}"; }
# shellcheck disable=SC2254 # it is a pattern
at() { case "$(readlink /proc/$1/fd/$2)" in $3) true;; *) false;; esac; }
same() { [ "$(readlink /proc/$1/fd/$2)" = "$(readlink /proc/$3/fd/$4)" ]; }
