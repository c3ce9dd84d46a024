# python: python's multiprocessing in each way of starting, and callbacks from C

#: prepare
mkdir -p /srv/python; cat > /srv/python/pool.py <<'PYTHON'
import multiprocessing, sys, time
def work(n): time.sleep(0.05); return n * n
if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        assert pool.map(work, range(8)) == [n * n for n in range(8)]
PYTHON
cat > /srv/python/callbacks.py <<'PYTHON'
import ctypes
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
numbers = (ctypes.c_int * 100)(*range(100, 0, -1))
ctypes.CDLL(None).qsort(numbers, 100, 4, compare(lambda a, b: a[0] - b[0]))
assert list(numbers) == list(range(1, 101))
PYTHON
#: turn
for way in fork spawn forkserver; do python3 /srv/python/pool.py $way; done
python3 /srv/python/callbacks.py
