# What all scripts begin with.
set -e
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/run/pace
fact() { printf -v "$1" %s "$2"; echo "@fact $1 $2"; }
await() {
  local await_end=$((SECONDS + 60))
  until eval "$1"; do ((SECONDS < await_end)) || { echo "never: $1"; return 1; }; sleep 0.05; done
}
