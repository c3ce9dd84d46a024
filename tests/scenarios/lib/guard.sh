# Where a script fails, all that it started ends with it. The agent waits for each process that
# holds the script's output.
end_all() { (($1 == 0)) || kill -KILL 0; }
trap 'end_all $?' EXIT
