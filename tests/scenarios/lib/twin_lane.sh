# Runs its twins in turn, without end: `NAME STATUS` goes into the log after each turn. The longest
# turn, of java, takes minutes where two guests share two processors.
cd /; while true; do
  for name in "$@"; do
    if timeout -k 1 600 bash /run/twins/$name < /dev/null > /run/twins/$name.out 2>&1
    then status=0; else status=$?; fi
    [ $status = 0 ] || tail -c 300 /run/twins/$name.out > /run/twins/$name.bad
    echo $name $status >> /run/twins/log
  done
done
