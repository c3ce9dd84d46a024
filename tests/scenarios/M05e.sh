# M05e: twin: python's functions are called from C, and its processes multiply
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid

#: act
cat > /tmp/m05e.py <<'EOF'
import ctypes, multiprocessing, os, pace, sys
def work(n):
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    return kind(lambda x: x + n)(1)
if __name__ == '__main__':
    print('@fact pid', os.getpid(), flush=True)
    print('@act', flush=True)
    pace.scanned()
    for how in 'fork', 'spawn', 'forkserver':
        context = multiprocessing.get_context(how)
        children = [context.Process(target=work, args=(n,)) for n in range(3)]
        for child in children: child.start()
        for child in children: child.join()
EOF
python3 /tmp/m05e.py # says @act
#: clean
rm /tmp/m05e.py
