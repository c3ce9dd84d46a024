# M05g: twin: node compiles where memory is never promised twice
# stage: equipped
# expect: process_terminated
#   process.process_id: $pid

#: act
echo 400 > /proc/sys/vm/overcommit_ratio
echo 2 > /proc/sys/vm/overcommit_memory
act
(scanned; exec node -e '
for (let k = 0; k < 40; k++) {
  const body = "let s = 0; for (let i = 0; i < n; i++) s += i * " + k + " % 7; return s"
  const f = new Function("n", body)
  for (let r = 0; r < 30; r++) f(3000)
}') & fact pid $!
wait $pid
#: clean
echo 0 > /proc/sys/vm/overcommit_memory
