//! Open files: changes to them, and their names.

use super::{CONTENT_CHANGE, Expected, Scenario, record};

const OPEN: &str = "file_descriptor_open";
const CLOSE: &str = "file_descriptor_close";

const fn opened(fields: &'static [(&'static str, &'static str)]) -> Expected {
    record(OPEN).with(fields)
}

const fn closed(fields: &'static [(&'static str, &'static str)]) -> Expected {
    record(CLOSE).with(fields)
}

/// A change of a file by its name, its process, and its state afterwards.
const fn changed(fields: &'static [(&'static str, &'static str)]) -> Expected {
    record(CONTENT_CHANGE).with(fields)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("F12", "a file is written and closed")
        .prepare("echo before > /tmp/f12")
        .act(
            "(exec 7>>/tmp/f12; scanned; echo after >&7; scanned; act; exec 7>&-; scanned) & fact pid $!
             wait $pid
             fact sha256 $(sha256sum < /tmp/f12 | cut -d' ' -f1); fact md5 $(md5sum < /tmp/f12 | cut -d' ' -f1)
             fact sha1 $(sha1sum < /tmp/f12 | cut -d' ' -f1); fact inode $(stat -c %i /tmp/f12)",
        )
        .expect(&[
            changed(&[
                ("file_descriptor.file_descriptor_name", "/tmp/f12"),
                ("file_descriptor.file_descriptor_index", "7"),
                ("file_descriptor.file_descriptor_inode_number", "$inode"),
                ("file_descriptor.file_descriptor_inode_size_bytes", "13"),
                ("file_descriptor.file_descriptor_inode_hash_sha256", "$sha256"),
                ("file_descriptor.file_descriptor_inode_hash_sha1", "$sha1"),
                ("file_descriptor.file_descriptor_inode_hash_md5", "$md5"),
                ("process.process_id", "$pid"),
            ]),
            opened(&[
                ("file_descriptor.file_descriptor_name", "/tmp/f12"),
                ("file_descriptor.file_descriptor_index", "7"),
                ("process.process_id", "$pid"),
            ]),
        ])
        .clean("rm /tmp/f12"),
    Scenario::new("F12b", "a file is overwritten in place, its size as before")
        .prepare("echo before > /tmp/f12b")
        .act(
            "(exec 7<>/tmp/f12b; scanned; echo behind >&7; scanned; act; exec 7>&-; scanned) & fact pid $!
             wait $pid
             fact sha256 $(sha256sum < /tmp/f12b | cut -d' ' -f1)",
        )
        .expect(&[changed(&[
            ("file_descriptor.file_descriptor_name", "/tmp/f12b"),
            ("file_descriptor.file_descriptor_inode_size_bytes", "7"),
            ("file_descriptor.file_descriptor_inode_hash_sha256", "$sha256"),
            ("process.process_id", "$pid"),
        ])])
        .clean("rm /tmp/f12b"),
    Scenario::new("F12t", "twins: closed after reading, or unchanged; pipes, terminals, modes")
        .prepare("echo same > /tmp/f12t")
        .act(
            "act
             (exec 7</tmp/f12t; read line <&7; scanned; exec 7<&-; scanned) & fact reader $!
             (exec 7<>/tmp/f12t; scanned; exec 7<&-; scanned) & fact idle $!
             (exec 7<>/tmp/f12t; chmod 600 /tmp/f12t; scanned; exec 7<&-; scanned) & fact mode $!
             (exec 7<>/dev/ptmx; echo x >&7; scanned) & fact terminal $!
             { (echo x; scanned >&8) | (exec 7<&0; read line <&7; scanned); } 8>&1 & fact pipe $!
             wait",
        )
        .expect(&[
            closed(&[
                ("file_descriptor.file_descriptor_name", "/tmp/f12t"),
                ("file_descriptor.file_descriptor_index", "7"),
            ])
            .times(3),
            opened(&[
                ("process.process_id", "$terminal"),
                ("file_descriptor.file_descriptor_index", "7"),
            ]),
        ])
        .clean("rm /tmp/f12t"),
    Scenario::new("F13", "twin: a log that grows and is never closed")
        .prepare(
            "(exec 7>>/tmp/f13; while sleep 0.4; do echo line >&7; done) \
             >/dev/null 2>&1 & fact pid $!; kept $pid; await '[ -s /tmp/f13 ]'",
        )
        .act(
            "act
             size=$(stat -c %s /tmp/f13); scanned; await '[ $(stat -c %s /tmp/f13) -gt $size ]'
             (exec 8</etc/hostname; stay) & fact mark $!; seen; over $mark",
        )
        .expect(&[opened(&[
            ("process.process_id", "$mark"),
            ("file_descriptor.file_descriptor_index", "8"),
            ("file_descriptor.file_descriptor_name", "/etc/hostname"),
        ])])
        .clean("rm /tmp/f13"),
    Scenario::new("F13b", "a writer that is killed")
        .prepare("echo before > /tmp/f13b")
        .act(
            "(exec 7>>/tmp/f13b; scanned; echo line >&7; exec sleep 600) & fact pid $!
             await '[ $(stat -c %s /tmp/f13b) = 12 ]'; scanned; act; over $pid",
        )
        .expect(&[changed(&[
            ("file_descriptor.file_descriptor_name", "/tmp/f13b"),
            ("file_descriptor.file_descriptor_inode_size_bytes", "12"),
            ("process.process_id", "$pid"),
        ])])
        .clean("rm /tmp/f13b"),
    Scenario::new("F14", "a descriptor number is reused for another file")
        .act(
            "act
             (exec 7</etc/passwd; scanned; exec 7<&-; exec 7</etc/group; scanned) & fact pid $!
             wait $pid",
        )
        .expect(&[
            opened(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_index", "7"),
                ("file_descriptor.file_descriptor_name", "/etc/passwd"),
            ]),
            closed(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_index", "7"),
                ("file_descriptor.file_descriptor_name", "/etc/passwd"),
            ]),
            opened(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_index", "7"),
                ("file_descriptor.file_descriptor_name", "/etc/group"),
            ]),
        ]),
    Scenario::new("F15", "dup2 over an open file")
        .act(
            "(exec 7</etc/passwd 8</etc/group; scanned; act; exec 7<&8; scanned) & fact pid $!
             wait $pid",
        )
        .expect(&[
            closed(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_index", "7"),
                ("file_descriptor.file_descriptor_name", "/etc/passwd"),
            ]),
            opened(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_index", "7"),
                ("file_descriptor.file_descriptor_name", "/etc/group"),
            ]),
        ]),
    Scenario::new("F16", "ten thousand open files")
        .prepare("echo x > /tmp/f16")
        .act(
            "python3 -c '
import pace
print(\"@act\", flush=True)
files = [open(\"/tmp/f16\") for i in range(10000)]
pace.scanned()' & fact pid $!
             wait $pid",
        )
        .expect(&[
            opened(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_name", "/tmp/f16"),
            ])
            .times(10_000),
            closed(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_name", "/tmp/f16"),
            ])
            .times(10_000),
        ])
        .clean("rm /tmp/f16"),
    Scenario::new("F17", "a temporary file whose name was removed")
        .act(
            "act
             (exec 7<>/tmp/f17; rm /tmp/f17; stay) & fact pid $!
             seen; over $pid",
        )
        .expect(&[opened(&[
            ("process.process_id", "$pid"),
            ("file_descriptor.file_descriptor_index", "7"),
            ("file_descriptor.file_descriptor_name", "~/tmp/f17"),
        ])]),
    Scenario::new("F17b", "a temporary file that never had a name")
        .act(
            "python3 -c '
import os, time
print(\"@act\", flush=True)
fd = os.open(\"/tmp\", os.O_TMPFILE | os.O_RDWR)
time.sleep(600)' & fact pid $!
             seen; over $pid",
        )
        .expect(&[opened(&[
            ("process.process_id", "$pid"),
            ("file_descriptor.file_descriptor_index", "3"),
            ("file_descriptor.file_descriptor_name", "~/tmp/#"),
            ("file_descriptor.file_descriptor_inode_deleted", "true"),
        ])]),
    Scenario::new("F20", "a file on an overlay, by the overlay's path")
        .prepare(
            "mkdir -p /tmp/f20/lower /tmp/f20/upper /tmp/f20/work /mnt/f20
             echo layer > /tmp/f20/lower/file
             mount -t overlay overlay -o lowerdir=/tmp/f20/lower,upperdir=/tmp/f20/upper,workdir=/tmp/f20/work /mnt/f20",
        )
        .act("act\n(exec 7</mnt/f20/file; stay) & fact pid $!; seen; scanned; over $pid")
        .expect(&[
            opened(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_index", "7"),
                ("file_descriptor.file_descriptor_name", "/mnt/f20/file"),
            ]),
            record(OPEN)
                .with(&[("file_descriptor.file_descriptor_name", "~/tmp/f20/")])
                .times(0),
        ])
        .clean("umount /mnt/f20; rm -r /tmp/f20"),
    Scenario::new("F21", "long names and deep folders")
        .prepare(
            "name=$(printf 'n%.0s' {1..200}); deep=/tmp/f21$(printf '/folder%.0s' {1..40})
             mkdir -p $deep; echo x > $deep/$name; fact path $deep/$name",
        )
        .act("act\n(exec 7<$path; stay) & fact pid $!; seen; over $pid")
        .expect(&[opened(&[
            ("process.process_id", "$pid"),
            ("file_descriptor.file_descriptor_index", "7"),
            ("file_descriptor.file_descriptor_name", "$path"),
        ])])
        .clean("rm -r /tmp/f21"),
    Scenario::new("F22", "a bind mount, and another root")
        .prepare(
            "mkdir -p /tmp/f22/sub /mnt/f22; echo x > /tmp/f22/sub/file; mount --bind /tmp/f22/sub /mnt/f22",
        )
        .act(
            "act
             (exec 7</mnt/f22/file; stay) & fact bind $!
             unshare --mount bash -c 'mount -t tmpfs tmpfs /mnt; echo y > /mnt/inner; exec 7</mnt/inner
               read -r _ <> /run/pace/never' & fact inner $!
             seen; over $bind $inner",
        )
        .expect(&[
            opened(&[
                ("process.process_id", "$bind"),
                ("file_descriptor.file_descriptor_index", "7"),
                ("file_descriptor.file_descriptor_name", "/mnt/f22/file"),
            ]),
            opened(&[
                ("process.process_id", "$inner"),
                ("file_descriptor.file_descriptor_index", "7"),
                ("file_descriptor.file_descriptor_name", "/mnt/inner"),
            ]),
        ])
        .clean("umount /mnt/f22; rm -r /tmp/f22"),
];
