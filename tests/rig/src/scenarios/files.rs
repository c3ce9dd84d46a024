//! Programs that differ from what was shipped, or are at another place; and harmless programs that
//! resemble them.

use super::{Expected, Scenario, record};

const FOREIGN: &str = "foreign_binary_executed";
const FOREIGN_SIZE: &str = "foreign_binary_executed_file_size_mismatch";
const MOVED: &str = "binary_executed_not_as_intended";

/// An alert about a program by its path, its process and the hashes computed inside.
const fn hashed(activity: &'static str) -> Expected {
    record(activity).with(&[
        ("elf_file.elf_file_path", "$path"),
        ("process.process_id", "$pid"),
        ("elf_file.elf_file_hash_sha256", "$sha256"),
        ("elf_file.elf_file_hash_sha1", "$sha1"),
        ("elf_file.elf_file_hash_md5", "$md5"),
        ("elf_file.elf_file_size_bytes", "$size"),
        ("elf_file.elf_file_inode_number", "$inode"),
    ])
}

/// A process that runs a program: proof that the watcher saw a twin.
const fn runs(fields: &'static [(&'static str, &'static str)]) -> Expected {
    record("process_created").with(fields)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("F01", "fileless: a foreign program from a memfd")
        .act(
            "python3 -c '
import os
fd = os.memfd_create(\"stranger\")
os.sendfile(fd, os.open(\"/opt/stranger\", os.O_RDONLY), 0, 1 << 30)
print(\"@act\", flush=True)
os.execv(\"/proc/self/fd/%d\" % fd, [\"stranger\", \"600\"])' &
             fact pid $!
             fact sha256 $(sha256sum < /opt/stranger | cut -d' ' -f1)
             seen; over $pid",
        )
        .expect(&[record(FOREIGN).with(&[
            ("elf_file.elf_file_path", "/memfd:stranger (deleted)"),
            ("elf_file.elf_file_hash_sha256", "$sha256"),
            ("process.process_id", "$pid"),
            ("detection.reason", "~without a file"),
        ])]),
    Scenario::new("F01b", "fileless: a shipped program from a memfd")
        .act(
            "python3 -c '
import os
fd = os.memfd_create(\"box\")
os.sendfile(fd, os.open(\"/bin/busybox\", os.O_RDONLY), 0, 1 << 30)
print(\"@act\", flush=True)
os.execv(\"/proc/self/fd/%d\" % fd, [\"sleep\", \"600\"])' &
             fact pid $!
             seen; over $pid",
        )
        .expect(&[record(MOVED).with(&[
            ("elf_file.elf_file_path", "/memfd:box (deleted)"),
            ("process.process_id", "$pid"),
            ("detection.reason", "~without a file"),
        ])]),
    Scenario::new("F01t", "twin: a program in a memfd, as data only")
        .act(
            "act
             python3 -c '
import os, time
fd = os.memfd_create(\"data\")
os.sendfile(fd, os.open(\"/opt/stranger\", os.O_RDONLY), 0, 1 << 30)
time.sleep(600)' &
             fact pid $!
             seen; scanned; over $pid",
        )
        .expect(&[record("file_descriptor_open").with(&[
            ("process.process_id", "$pid"),
            ("file_descriptor.file_descriptor_file_type", "MEMFD"),
        ])])
        .besides(&[record(super::CONTENT_CHANGE)
            .with(&[("file_descriptor.file_descriptor_file_type", "MEMFD")])]),
    Scenario::new("F02", "a copied program that is deleted while it runs")
        .prepare("cp /bin/busybox /tmp/f02")
        .act(
            "act
             (exec -a sleep /tmp/f02 600) & fact pid $!
             seen; rm /tmp/f02; scanned; over $pid",
        )
        .expect(&[record(MOVED)
            .with(&[("elf_file.elf_file_path", "/tmp/f02"), ("process.process_id", "$pid")])]),
    Scenario::new("F02b", "a foreign program that is deleted as soon as it runs")
        .prepare("cp /opt/stranger /tmp/f02b; fact sha256 $(sha256sum < /tmp/f02b | cut -d' ' -f1)")
        .act(
            "act
             /tmp/f02b 600 & fact pid $!
             await '[ /proc/$pid/exe -ef /tmp/f02b ]'; rm /tmp/f02b
             seen; over $pid",
        )
        .expect(&[record(FOREIGN).with(&[
            ("elf_file.elf_file_path", "~/tmp/f02b"),
            ("elf_file.elf_file_hash_sha256", "$sha256"),
            ("process.process_id", "$pid"),
        ])]),
    Scenario::new("F03", "twin: a running program is replaced by the same one")
        .prepare("cp -p /usr/bin/sleep /usr/bin/sleep.new")
        .act(
            "sleep 600 & fact old $!
             await '[ /proc/$old/exe -ef /usr/bin/sleep ]'
             act
             mv /usr/bin/sleep.new /usr/bin/sleep
             sleep 600 & fact new $!
             await '[ /proc/$new/exe -ef /usr/bin/sleep ]'
             seen 1; scanned; over $old $new",
        )
        .expect(&[
            // A scan may find the process before it has become its program.
            runs(&[("process.process_id", "$new")]),
            record("process_terminated").with(&[
                ("process.process_id", "$new"),
                ("process.process_executable_path", "/usr/bin/sleep"),
            ]),
            record("process_terminated").with(&[
                ("process.process_id", "$old"),
                ("process.process_executable_path", "/usr/bin/sleep (deleted)"),
            ]),
        ]),
    Scenario::new("F04", "a foreign program")
        .prepare(
            "cp /opt/stranger /tmp/f04; fact path /tmp/f04
             for kind in sha256 sha1 md5; do fact $kind $(${kind}sum < /tmp/f04 | cut -d' ' -f1); done
             fact size $(stat -c %s /tmp/f04); fact inode $(stat -c %i /tmp/f04)",
        )
        .act("act\n/tmp/f04 600 & fact pid $!; seen; over $pid")
        .expect(&[hashed(FOREIGN)])
        .clean("rm /tmp/f04"),
    Scenario::new("F04b", "a foreign program that ends within a tenth of a second")
        .prepare("cp /opt/stranger /tmp/f04b; fact sha256 $(sha256sum < /tmp/f04b | cut -d' ' -f1)")
        // A slow watcher misses most of such programs, so they are started one after the other
        // until it finds one.
        .act("act\nuntil come || ((SECONDS > 60)); do timeout 0.1 /tmp/f04b 2 || true; done")
        .expect(&[record(FOREIGN)
            .with(&[
                ("elf_file.elf_file_path", "/tmp/f04b"),
                ("elf_file.elf_file_hash_sha256", "$sha256"),
            ])
            .at_least(1)
            .distinct("process.process_id")])
        .clean("rm /tmp/f04b"),
    Scenario::new("F04c", "a foreign program, linked dynamically")
        .prepare("cp /opt/stranger-dynamic /tmp/f04c")
        .act("act\n/tmp/f04c 600 & fact pid $!; seen; over $pid")
        .expect(&[record(FOREIGN).with(&[
            ("elf_file.elf_file_path", "/tmp/f04c"),
            ("elf_file.elf_file_type", "SHARED_OBJECT"),
            ("process.process_id", "$pid"),
        ])])
        .clean("rm /tmp/f04c"),
    Scenario::new("F04d", "a foreign program, run by the dynamic loader")
        .prepare("cp /opt/stranger-dynamic /tmp/f04d")
        .act("act\n/lib64/ld-linux-x86-64.so.2 /tmp/f04d 600 & fact pid $!; seen; over $pid")
        .expect(&[record(FOREIGN)
            .with(&[("elf_file.elf_file_path", "/tmp/f04d"), ("process.process_id", "$pid")])])
        .clean("rm /tmp/f04d"),
    Scenario::new("F04t", "twin: shipped programs by links, and by the dynamic loader")
        .prepare("ln -s /usr/bin/sleep /tmp/f04t")
        .act(
            "act
             /tmp/f04t 600 & fact link $!
             busybox sleep 600 & fact applet $!
             /lib64/ld-linux-x86-64.so.2 /usr/bin/sleep 600 & fact loaded $!
             /sbin/../bin/nc -l -p 7100 & fact other $!
             for pid in $link $applet $loaded $other; do await '! [ /proc/$pid/exe -ef /bin/bash ]'; done
             seen; scanned; over $link $applet $loaded $other",
        )
        .expect(&[
            runs(&[("process.process_id", "$link")]),
            runs(&[("process.process_id", "$applet")]),
            runs(&[("process.process_id", "$loaded")]),
            runs(&[("process.process_id", "$other")]),
        ])
        .clean("rm /tmp/f04t"),
    Scenario::new("F05", "a shipped program with bytes appended")
        .prepare(
            "cp -p /usr/bin/tail /tmp/f05; printf x >> /usr/bin/tail; fact path /usr/bin/tail
             for kind in sha256 sha1 md5; do fact $kind $(${kind}sum < /usr/bin/tail | cut -d' ' -f1); done
             fact size $(stat -c %s /usr/bin/tail); fact inode $(stat -c %i /usr/bin/tail)",
        )
        .act("act\ntail -f /dev/null & fact pid $!; seen; over $pid")
        .expect(&[hashed(FOREIGN_SIZE), hashed(FOREIGN)])
        .clean("cp -p /tmp/f05 /usr/bin/tail; rm /tmp/f05"),
    Scenario::new("F05b", "a shipped program made longer by a hole")
        .prepare("cp -p /usr/bin/tail /tmp/f05b; truncate -s +1M /usr/bin/tail")
        .act("act\ntail -f /dev/null & fact pid $!; seen; over $pid")
        .expect(&[
            record(FOREIGN_SIZE)
                .with(&[("elf_file.elf_file_path", "/usr/bin/tail"), ("process.process_id", "$pid")]),
            record(FOREIGN)
                .with(&[("elf_file.elf_file_path", "/usr/bin/tail"), ("process.process_id", "$pid")]),
        ])
        .clean("cp -p /tmp/f05b /usr/bin/tail; rm /tmp/f05b"),
    Scenario::new("F06", "a shipped program with one byte changed")
        .prepare(
            "cp -p /usr/bin/tail /tmp/f06; fact path /usr/bin/tail
             printf x | dd of=/usr/bin/tail bs=1 seek=$(($(stat -c %s /tmp/f06) - 1)) conv=notrunc 2>/dev/null
             ! cmp -s /usr/bin/tail /tmp/f06
             for kind in sha256 sha1 md5; do fact $kind $(${kind}sum < /usr/bin/tail | cut -d' ' -f1); done
             fact size $(stat -c %s /usr/bin/tail); fact inode $(stat -c %i /usr/bin/tail)",
        )
        .act("act\ntail -f /dev/null & fact pid $!; seen; over $pid")
        .expect(&[hashed(FOREIGN)])
        .clean("cp -p /tmp/f06 /usr/bin/tail; rm /tmp/f06"),
    Scenario::new("F07", "a shipped program from another folder")
        .prepare("cp /usr/bin/busybox /tmp/nc")
        .act("act\n/tmp/nc -l -p 7101 & fact pid $!; seen; over $pid")
        .expect(&[record(MOVED)
            .with(&[("elf_file.elf_file_path", "/tmp/nc"), ("process.process_id", "$pid")])])
        .clean("rm /tmp/nc"),
    Scenario::new("F07b", "a shipped program by a hard link in another folder")
        .prepare("ln /usr/bin/busybox /var/tmp/f07b")
        .act("act\n(exec -a sleep /var/tmp/f07b 600) & fact pid $!; seen; over $pid")
        .expect(&[record(MOVED)
            .with(&[("elf_file.elf_file_path", "/var/tmp/f07b"), ("process.process_id", "$pid")])])
        .clean("rm /var/tmp/f07b"),
    Scenario::new("F10", "twin: scripts that were not shipped")
        .prepare(
            "printf '#!/bin/bash\\nread -r _ <> /run/pace/never\\n' > /tmp/f10.sh; chmod 755 /tmp/f10.sh
             printf 'import time\\ntime.sleep(600)\\n' > /tmp/f10.py",
        )
        .act(
            "act
             /tmp/f10.sh & fact shell $!
             python3 /tmp/f10.py & fact python $!
             await '[ /proc/$python/exe -ef /usr/bin/python3 ] && begins $shell /bin/bash'
             scanned; over $shell $python",
        )
        .expect(&[
            record("process_terminated").with(&[
                ("process.process_id", "$shell"),
                ("process.process_executable_path", "/usr/bin/bash"),
                ("process.process_command_line_arguments", "/bin/bash /tmp/f10.sh"),
            ]),
            record("process_terminated").with(&[
                ("process.process_id", "$python"),
                ("process.process_executable_path", "/usr/bin/python3.11"),
                ("process.process_command_line_arguments", "python3 /tmp/f10.py"),
            ]),
        ])
        .clean("rm /tmp/f10.sh /tmp/f10.py"),
    Scenario::new("F10b", "a shipped script with other content")
        .prepare(
            "cp -p /usr/bin/ldd /tmp/f10b
             printf '#!/bin/bash\\nread -r _ <> /run/pace/never\\nexit 0\\n' > /usr/bin/ldd",
        )
        .act("act\n/usr/bin/ldd & fact pid $!; seen; over $pid")
        .expect(&[record(FOREIGN)
            .with(&[("elf_file.elf_file_path", "/usr/bin/ldd"), ("process.process_id", "$pid")])])
        .besides(&[record(FOREIGN_SIZE)
            .with(&[("elf_file.elf_file_path", "/usr/bin/ldd"), ("process.process_id", "$pid")])])
        .clean("cp -p /tmp/f10b /usr/bin/ldd; rm /tmp/f10b"),
    Scenario::new("F10t", "twin: a shipped script as it is")
        // Its output is full, so it waits in its first write until the watcher has found it.
        .act(
            "rm -f /tmp/f10t; mkfifo /tmp/f10t; exec 8<> /tmp/f10t
             dd if=/dev/zero of=/tmp/f10t bs=4096 count=16 oflag=nonblock 2> /dev/null
             act
             /usr/bin/ldd /usr/bin/python3.11 >&8 & fact pid $!
             seen; scanned; head -c 65536 <&8 > /dev/null; wait $pid; exec 8>&-",
        )
        .clean("rm /tmp/f10t")
        .expect(&[runs(&[("process.process_id", "$pid")])]),
];
