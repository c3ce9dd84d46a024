//! Memory that becomes executable, and harmless memory that resembles it.

use super::{Count, Expected, Scenario, Stage, record};

const ADDED: &str = "executable_permissions_added";
const REMOVED: &str = "executable_permissions_removed";
const ANONYMOUS: &str = "new_executable_anonymous_memory_mapped";
const MAPPED: &str = "new_file_mapped";
const UNMAPPED: &str = "file_unmapped";

/// An alert about `$start` to `$end` of the process `$pid`.
macro_rules! at {
    ($activity:expr, $permissions:literal, $reason:literal $(, $more:expr)*) => {
        record($activity).with(&[
            ("process.process_id", "$pid"),
            ("process_memory.process_id", "$pid"),
            ("process_memory.virtual_memory_area_start_address", "$start"),
            ("process_memory.virtual_memory_area_end_address", "$end"),
            ("process_memory.memory_permissions", $permissions),
            ("detection.reason", $reason),
            $($more),*
        ])
    };
}

/// The end of the process `$pid`, whatever it did.
const fn ended() -> Expected {
    record("process_terminated").with(&[("process.process_id", "$pid")])
}

const fn at_least(expected: Expected, count: usize) -> Expected {
    Expected { count: Count::AtLeast(count), ..expected }
}

/// A scenario of [`Stage::Behaviour`] in which `/opt/memory` does one thing.
const fn memory(id: &'static str, name: &'static str, act: &'static str) -> Scenario {
    Scenario::new(id, name).stage(Stage::Behaviour).act(act)
}

/// A twin in the guest with many programs.
const fn runtime(id: &'static str, name: &'static str, act: &'static str) -> Scenario {
    Scenario::new(id, name).stage(Stage::Equipped).act(act)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    memory(
        "M01",
        "memory is mapped to be written and executed",
        "/opt/memory mapped # says @act",
    )
    .expect(&[record(ANONYMOUS).with(&[
        ("process.process_id", "$pid"),
        ("process_memory.virtual_memory_area_start_address", "$start"),
        ("process_memory.virtual_memory_area_end_address", "$end"),
        ("process_memory.memory_permissions", "rwxp"),
    ])]),
    memory("M02", "memory is written, then made executable", "/opt/memory written # says @act")
        .expect(&[
            at!(
                ADDED,
                "r-xp",
                "~4096 bytes of memory without a file at $start were written and can be executed now",
                ("process_memory.is_main_process_executable", "false"),
                ("process.process_executable_path", "/opt/memory"),
                ("process.process_command_line_arguments", "/opt/memory written"),
                ("detection.mitre_attack", "[\"T1055\",\"T1620\"]"),
                ("detection.confidence", "medium")
            ),
            record(ANONYMOUS).with(&[("process.process_id", "$pid")]).times(0),
        ]),
    memory("M02b", "the same, all at once", "/opt/memory at-once # says @act").expect(&[
        at!(ADDED, "r-xp", "~were written and can be executed now"),
    ]),
    memory("M02c", "the same, and it stays writable", "/opt/memory writable # says @act")
        .expect(&[at!(ADDED, "rwxp", "~rw-p before, rwxp now")]),
    memory("M02d", "code is hidden, and shown again", "/opt/memory hidden # says @act").expect(&[
        at!(ADDED, "r-xp", "~rw-p before, r-xp now").times(2),
        // Where it is not executable it is no area of its own.
        record(REMOVED).with(&[
            ("process.process_id", "$pid"),
            ("process_memory.memory_permissions", "rw-p"),
            ("detection.reason", "~4096 bytes of memory without a file at $start could be executed"),
        ]),
    ]),
    memory("M02e", "the same in shared memory", "/opt/memory shared # says @act")
        .expect(&[at!(ADDED, "r-xs", "~4096 bytes of shared memory at $start")]),
    memory("M02f", "the same, and a child that inherits it", "/opt/memory forked # says @act")
        .expect(&[at!(ADDED, "r-xp", "~were written and can be executed now")]),
    memory("M03", "the program's text is patched", "/opt/memory text # says @act").expect(&[
        at!(
            REMOVED,
            "rw-p",
            "~4096 bytes of the program itself at $start are text by the file's own headers",
            ("process_memory.is_main_process_executable", "true"),
            ("process_memory.file_path", "/opt/memory"),
            ("process_memory.file_name", "memory"),
            ("detection.mitre_attack", "[\"T1055\"]")
        ),
        // It is again a part of the whole text.
        record(ADDED).with(&[
            ("process.process_id", "$pid"),
            ("process_memory.memory_permissions", "r-xp"),
            ("process_memory.file_path", "/opt/memory"),
            ("detection.reason", "~4096 bytes of the program itself at $start are text that was written to"),
        ]),
    ]),
    memory("M03b", "the text of a forked worker is patched", "/opt/memory worker # says @act")
        .expect(&[
            at!(
                REMOVED,
                "rw-p",
                "~4096 bytes of the program itself at $start are text by the file's own headers"
            ),
            at!(ADDED, "r-xp", "~4096 bytes of the program itself at $start are text that was written to"),
        ]),
    memory(
        "M03t",
        "twin: a library whose text the loader relocates",
        "/opt/memory libraries /opt/relocated.so # says @act",
    )
    .expect(&[ended()]),
    memory("M04", "the stack is made executable", "/opt/memory stack # says @act").expect(&[
        at!(ADDED, "rwxp", "~of the stack at $start can be executed", ("detection.confidence", "high")),
    ]),
    memory("M04b", "the heap is made executable", "/opt/memory heap # says @act").expect(&[
        at!(
            ADDED,
            "rwxp",
            "~of the heap at $start can be executed",
            ("process_memory.memory_name", "[heap]")
        ),
    ]),
    memory("M04c", "a program's data is made executable", "/opt/memory data # says @act").expect(&[
        at!(
            ADDED,
            "r-xp",
            "~which the file does not say of them",
            ("process_memory.is_main_process_executable", "true"),
            ("process_memory.file_path", "/opt/memory")
        ),
    ]),
    memory(
        "M04t",
        "twin: a program that asks for an executable stack",
        "/opt/memory-execstack stay # says @act",
    )
    .expect(&[
        record(ANONYMOUS).with(&[
            ("process.process_id", "$pid"),
            ("process_memory.memory_name", "[stack]"),
            ("process_memory.memory_permissions", "rwxp"),
        ]),
        ended(),
    ]),
    runtime(
        "M05",
        "twin: node compiles",
        "act
         (scanned; exec node -e '
for (let k = 0; k < 40; k++) {
  const f = new Function(\"n\", \"let s = 0; for (let i = 0; i < n; i++) s += i * \" + k + \" % 7; return s\")
  for (let r = 0; r < 30; r++) f(3000)
}') & fact pid $!
         wait $pid",
    )
    .expect(&[ended()]),
    runtime(
        "M05g",
        "twin: node compiles where memory is never promised twice",
        "echo 400 > /proc/sys/vm/overcommit_ratio
         echo 2 > /proc/sys/vm/overcommit_memory
         act
         (scanned; exec node -e '
for (let k = 0; k < 40; k++) {
  const f = new Function(\"n\", \"let s = 0; for (let i = 0; i < n; i++) s += i * \" + k + \" % 7; return s\")
  for (let r = 0; r < 30; r++) f(3000)
}') & fact pid $!
         wait $pid",
    )
    .expect(&[ended()])
    .clean("echo 0 > /proc/sys/vm/overcommit_memory"),
    runtime(
        "M05h",
        "twin: gjs compiles",
        "act
         (scanned; exec gjs -c '
for (let k = 0; k < 40; k++) {
  const f = new Function(\"n\", \"let s = 0; for (let i = 0; i < n; i++) s += i * \" + k + \" % 7; return s\")
  for (let r = 0; r < 30; r++) f(3000)
}
imports.system.exit(0)') & fact pid $!
         wait $pid",
    )
    .expect(&[ended()]),
    runtime(
        "M05b",
        "twin: java compiles",
        "act
         # It may end before a slow watcher finds its code: then there is another one.
         until ((SECONDS > 60)); do
           (scanned; exec java -Xcomp -version > /dev/null 2>&1) & fact pid $!
           wait $pid; scanned
           if come; then break; fi
         done",
    )
    .expect(&[
        ended(),
        at_least(
            record(ANONYMOUS).with(&[
                ("process.process_id", "$pid"),
                ("process_memory.memory_permissions", "rwxp"),
            ]),
            1,
        ),
    ]),
    // A copy, so that its library is still unknown to the watcher.
    runtime(
        "M05f",
        "twin: a forked worker of luajit compiles, and its parent does not",
        "mkdir /tmp/m05f
         cp /usr/lib/*/libluajit-5.1.so.2 /tmp/m05f
         act
         (scanned; export LD_BIND_NOW=1 LD_LIBRARY_PATH=/tmp/m05f; exec luajit -e '
jit.off()
local ffi = require(\"ffi\")
ffi.cdef(\"int fork(void); int waitpid(int, int *, int); unsigned sleep(unsigned); void _exit(int);\")
-- Once before, so that the worker need not look them up in all libraries.
local sleep, exit = ffi.C.sleep, ffi.C._exit
local child = ffi.C.fork()
if child == 0 then
  jit.on()
  local s = 0
  for k = 1, 100 do
    local f = loadstring(\"local s = 0 for i = 1, 3000 do s = s + i % \" .. k .. \" end return s\")
    s = s + f() + f()
  end
  io.open(\"/tmp/m05f/done\", \"w\"):close()
  sleep(600)
  exit(0)
end
print(\"@fact worker \" .. child)
io.flush()
ffi.C.waitpid(child, nil, 0)') & fact pid $!
         await '[ -e /tmp/m05f/done ]'; scanned; pkill -KILL -P $pid; wait $pid",
    )
    .expect(&[ended(), record("process_terminated").with(&[("process.process_id", "$worker")])])
    .clean("rm -r /tmp/m05f"),
    runtime(
        "M05c",
        "twin: luajit compiles",
        "act
         (scanned; exec luajit -e '
local s = 0
for k = 1, 100 do
  local f = loadstring(\"local s = 0 for i = 1, 3000 do s = s + i % \" .. k .. \" end return s\")
  s = s + f() + f()
end') & fact pid $!
         wait $pid",
    )
    .expect(&[ended()]),
    memory(
        "M05d",
        "twin: grep compiles expressions",
        "act
         for n in $(seq 40); do grep -P '^(root|user)[a-z0-9:]+(x|y)*' /etc/passwd > /dev/null; done
         grep -P 'nothing' /dev/zero & fact pid $!
         seen new_executable_anonymous_memory_mapped process.process_id=$pid; over $pid",
    )
    .expect(&[
        ended(),
        record(ANONYMOUS).with(&[
            ("process.process_id", "$pid"),
            ("process_memory.memory_permissions", "rwxp"),
        ]),
    ]),
    memory(
        "M05e",
        "twin: python's functions are called from C, and its processes multiply",
        "cat > /tmp/m05e.py <<'EOF'
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
         python3 /tmp/m05e.py # says @act",
    )
    .expect(&[ended()])
    .clean("rm /tmp/m05e.py"),
    memory(
        "M09",
        "a library is loaded and unloaded, again and again",
        "/opt/memory libraries /opt/stranger.so # says @act",
    )
    .expect(&[
        ended(),
        record(MAPPED)
            .with(&[
                ("process.process_id", "$pid"),
                ("process_memory.file_path", "/opt/stranger.so"),
                ("process_memory.memory_permissions", "r-xp"),
            ])
            .times(5),
        record(UNMAPPED)
            .with(&[
                ("process.process_id", "$pid"),
                ("process_memory.file_path", "/opt/stranger.so"),
                ("process_memory.memory_permissions", "r-xp"),
            ])
            .times(5),
    ]),
    memory(
        "M10",
        "twin: areas are mapped, unmapped, grown, split and merged",
        "/opt/memory churn # says @act",
    )
    .expect(&[ended()]),
    runtime(
        "M11",
        "a program with 60,000 areas of memory: there is room for them",
        "act
         python3 -c '
import mmap, pace
kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
areas = [mmap.mmap(-1, 4096, kind, mmap.PROT_READ | (i % 2) * mmap.PROT_WRITE) for i in range(60000)]
assert sum(1 for line in open(\"/proc/self/maps\")) > 60000
pace.scanned()' & fact pid $!
         wait $pid",
    )
    .expect(&[ended()]),
    memory("M12", "a program becomes itself again, 200 times", "/opt/memory again 200 # says @act")
        .expect(&[
            ended(),
            record(UNMAPPED).with(&[("process.process_id", "$pid"), ("process_memory.file_path", "/opt/memory")]).times(0),
        ]),
];
