# Words by which scripts and the watcher wait for each other.
kept() { fact kept "${kept:-} $*"; }
over() {
  local each
  kill -KILL "$@" 2> /dev/null || true
  for each; do wait $each 2> /dev/null || true; await "[ ! -e /proc/$each ]"; done
}
let_all() {
  local gate
  exec {gate}<> $hold
  rm -f $hold; printf '\n%.0s' {1..50} >&$gate
  # One that is just about to open it finds it open.
  sleep 1 > /dev/null 2>&1 &
  exec {gate}>&-
}
ask() {
  local answer="" here="" fifo=/run/pace/$BASHPID words
  [ -p $fifo ] || mkfifo $fifo
  printf -v words '\t%s' "${@:2}"
  exec {here}<> $fifo
  echo "@$1 $BASHPID$words"
  read -r answer <&$here
  exec {here}>&-
  [ "$answer" = yes ]
}
scanned() { ask scanned; }
seen() { ask seen "$@"; }
come() { ask come; }
lacks() { ask lacks "$@"; }
runs() { await "[ /proc/$1/exe -ef /usr/bin/$2 ]"; }
begins() { [[ $(tr '\0' ' ' < /proc/$1/cmdline) == "$2 "* ]]; }
stay() { read -r _ <> /run/pace/never; }
