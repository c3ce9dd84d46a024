# M05f: twin: a forked worker of luajit compiles, and its parent does not
# stage: equipped
# expect: process_terminated
#   process.process_id: $pid
# expect: process_terminated
#   process.process_id: $worker

#: act
mkdir /tmp/m05f
cp /usr/lib/*/libluajit-5.1.so.2 /tmp/m05f
act
(scanned; export LD_BIND_NOW=1 LD_LIBRARY_PATH=/tmp/m05f; exec luajit -e '
jit.off()
local ffi = require("ffi")
ffi.cdef("int fork(void); int waitpid(int, int *, int); unsigned sleep(unsigned); void _exit(int);")
-- Once before, so that the worker need not look them up in all libraries.
local sleep, exit = ffi.C.sleep, ffi.C._exit
local child = ffi.C.fork()
if child == 0 then
  jit.on()
  local s = 0
  for k = 1, 100 do
    local f = loadstring("local s = 0 for i = 1, 3000 do s = s + i % " .. k .. " end return s")
    s = s + f() + f()
  end
  io.open("/tmp/m05f/done", "w"):close()
  sleep(600)
  exit(0)
end
print("@fact worker " .. child)
io.flush()
ffi.C.waitpid(child, nil, 0)') & fact pid $!
await '[ -e /tmp/m05f/done ]'; scanned; pkill -KILL -P $pid; wait $pid
#: clean
rm -r /tmp/m05f
