# Runs inside: starts markers, and passes answers on. PORT is replaced.
cd /run/pace; exec 3<> /dev/PORT
while read -r -u 3 word number answer; do
  case $word in
    mark) (exec 3>&-; read -r answer <> never) & echo $number $! >&3;;
    end) kill -KILL $number; wait $number;;
    go) echo $answer 1<> $number;;
  esac
done
