//! Libraries that differ from what was shipped; and mapped files that are no libraries.

use super::{Expected, Scenario, record};

const FOREIGN: &str = "foreign_library_loaded";
const FOREIGN_SIZE: &str = "foreign_library_loaded_file_size_mismatch";
const MAPPED: &str = "new_file_mapped";

/// An alert about a library by its path and process, with the hash computed inside.
const fn hashed(activity: &'static str) -> Expected {
    record(activity).with(&[
        ("elf_file.elf_file_path", "$path"),
        ("elf_file.elf_file_hash_sha256", "$sha256"),
        ("elf_file.elf_file_type", "SHARED_OBJECT"),
        ("process.process_id", "$pid"),
    ])
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("F08", "a foreign library, by dlopen")
        .prepare(
            "cp /opt/stranger.so /tmp/f08.so; fact path /tmp/f08.so
             fact sha256 $(sha256sum < /tmp/f08.so | cut -d' ' -f1)",
        )
        .act(
            "python3 -c '
import ctypes, time
print(\"@act\", flush=True)
ctypes.CDLL(\"/tmp/f08.so\")
time.sleep(600)' & fact pid $!
             seen; over $pid",
        )
        .expect(&[
            hashed(FOREIGN),
            record(MAPPED).with(&[
                ("process.process_id", "$pid"),
                ("process_memory.file_path", "/tmp/f08.so"),
                ("process_memory.memory_permissions", "r-xp"),
            ]),
        ])
        .clean("rm /tmp/f08.so"),
    Scenario::new("F08b", "a foreign library, by LD_PRELOAD")
        .prepare(
            "cp /opt/stranger.so /tmp/f08b.so; fact path /tmp/f08b.so
             fact sha256 $(sha256sum < /tmp/f08b.so | cut -d' ' -f1)",
        )
        .act("act\nLD_PRELOAD=/tmp/f08b.so sleep 600 & fact pid $!; seen; over $pid")
        .expect(&[hashed(FOREIGN)])
        .clean("rm /tmp/f08b.so"),
    Scenario::new("F08c", "a shipped library with bytes appended")
        .prepare(
            "library=$(readlink -f /usr/lib/x86_64-linux-gnu/libyajl.so.2)
             cp -p $library /tmp/f08c; printf x >> $library; fact path $library
             fact sha256 $(sha256sum < $library | cut -d' ' -f1)",
        )
        .act(
            "python3 -c '
import ctypes, time
print(\"@act\", flush=True)
ctypes.CDLL(\"libyajl.so.2\")
time.sleep(600)' & fact pid $!
             seen; over $pid",
        )
        .expect(&[hashed(FOREIGN_SIZE), hashed(FOREIGN)])
        .besides(&[record(super::CONTENT_CHANGE)
            .with(&[("file_descriptor.file_descriptor_name", "$path")])])
        .clean("cp -p /tmp/f08c $path; rm /tmp/f08c"),
    Scenario::new("F08d", "a shipped library by a copy of it")
        .prepare(
            "mkdir -p /tmp/f08d; cp /usr/lib/x86_64-linux-gnu/libyajl.so.2 /tmp/f08d/
             printf x >> /tmp/f08d/libyajl.so.2",
        )
        .act(
            "LD_LIBRARY_PATH=/tmp/f08d python3 -c '
import ctypes, time
print(\"@act\", flush=True)
ctypes.CDLL(\"libyajl.so.2\")
time.sleep(600)' & fact pid $!
             seen; over $pid",
        )
        .expect(&[record(FOREIGN).with(&[
            ("elf_file.elf_file_path", "/tmp/f08d/libyajl.so.2"),
            ("process.process_id", "$pid"),
        ])])
        .clean("rm -r /tmp/f08d"),
    Scenario::new("F08t", "twin: libraries as data, and other files that are mapped")
        .prepare("cp /opt/stranger.so /tmp/f08t.so")
        .act(
            "act
             python3 -c '
import ctypes, mmap, time
ctypes.CDLL(\"libyajl.so.2\")
files = [open(\"/tmp/f08t.so\", \"rb\"), open(\"/etc/passwd\", \"rb\")]
maps = [mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) for file in files]
time.sleep(600)' & fact pid $!
             seen; scanned; over $pid",
        )
        .expect(&[
            record(MAPPED).with(&[
                ("process.process_id", "$pid"),
                ("process_memory.file_path", "/tmp/f08t.so"),
                ("process_memory.memory_permissions", "r--s"),
            ]),
            record(MAPPED).with(&[
                ("process.process_id", "$pid"),
                ("process_memory.file_path", "~libyajl.so.2"),
                ("process_memory.memory_permissions", "r-xp"),
            ]),
        ])
        .clean("rm /tmp/f08t.so"),
    Scenario::new("F09t", "twin: a mapped library is replaced by the same one")
        .prepare(
            "library=$(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1); fact library $library
             cp -p $library $library.new",
        )
        .act(
            "python3 -c 'import zlib, time; time.sleep(600)' & fact old $!
             await 'grep -q $library /proc/$old/maps'; scanned
             act
             mv $library.new $library
             python3 -c 'import zlib, time; time.sleep(600)' & fact new $!
             seen; scanned; over $old $new",
        )
        .besides(&[record(super::CONTENT_CHANGE)
            .with(&[("file_descriptor.file_descriptor_name", "$library.new")])])
        .expect(&[record(MAPPED).with(&[
            ("process.process_id", "$new"),
            ("process_memory.file_path", "$library"),
            ("process_memory.memory_permissions", "r-xp"),
        ])]),
];
