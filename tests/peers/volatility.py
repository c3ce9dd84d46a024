"""Runs one plugin of Volatility 3, counts what it lists, and prints times and counts as JSON.

    volatility.py CORE SYMBOLS CACHE SECONDS KEYS ONLY PLUGIN [ARGUMENT…]

A plugin that has used SECONDS of processor time is cut. KEYS, as in `PID,TID`, are the columns that
tell objects apart: a plugin lists some more than once. ONLY, as in `Proto=TCP`, or empty, leaves
out rows with another value.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import time


def main():
    core, symbols, cache, seconds, keys, only, *plugin = sys.argv[1:]
    seconds, keys = int(seconds), keys.split(",")
    column, _, value = only.partition("=")
    os.makedirs(cache, exist_ok=True)
    program = os.path.join(os.path.dirname(sys.executable), "vol")
    command = [program, "-q", "--offline", "--cache-path", cache, "-s", symbols, "-r", "csv"]
    start = time.monotonic()
    child = subprocess.Popen(
        [*command, "-f", core, *plugin],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds)),
    )
    rows, objects = 0, set()
    # The first line is empty.
    for row in csv.DictReader(line for line in child.stdout if line.strip()):
        # The last row of a plugin that was cut may end anywhere.
        if column and row.get(column) != value or None in row.values():
            continue
        rows += 1
        objects.add(tuple(row[key] for key in keys))
    status = child.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cut = status < 0 and used.ru_utime + used.ru_stime >= seconds - 1
    if status != 0 and not cut:
        sys.exit(f"{plugin[0]} failed ({status})")
    print(
        json.dumps(
            {
                "cpu": used.ru_utime + used.ru_stime,
                "wall": time.monotonic() - start,
                "rows": rows,
                "objects": len(objects),
                "cut": cut,
            }
        )
    )


main()
