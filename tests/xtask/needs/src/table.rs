//! The table. Everything that is used has a row, and each row is one thing.
//!
//! Programs that every Debian has are here, too: `cargo xtask test` shows its tests only what
//! [`seen_by_tests`] has.

use crate::User::{
    Arm64, Bench, Build, Delivery, Disks, Fuzz, Guests, Release, ReleasePage, Roots, Shells, Test,
};
use crate::Without::{Compile, Fail, Install, Make, Skip, Unpack};
use crate::{Kind, Need, User, Without};

type Text = &'static str;

const fn program(name: Text, user: User, without: Without, purpose: Text) -> Need {
    Need { name, kind: Kind::Program, user, without, purpose }
}

const fn argus_client(name: Text, purpose: Text) -> Need {
    program(name, Test, Unpack("argus-client"), purpose)
}

const fn file(name: Text, user: User, without: Without, purpose: Text) -> Need {
    Need { name, kind: Kind::File, user, without, purpose }
}

const fn library(name: Text, user: User, without: Without, purpose: Text) -> Need {
    Need { name, kind: Kind::Library, user, without, purpose }
}

const fn device(name: Text, without: Without, purpose: Text) -> Need {
    Need { name, kind: Kind::Device, user: Test, without, purpose }
}

const fn feature(name: Text, purpose: Text) -> Need {
    Need { name, kind: Kind::Feature, user: Test, without: Skip, purpose }
}

const fn variable(name: Text, user: User, purpose: Text) -> Need {
    Need { name, kind: Kind::Variable, user, without: Skip, purpose }
}

/// The rows that `cargo xtask test` shows its tests. It hides all others.
pub fn seen_by_tests() -> impl Iterator<Item = &'static Need> {
    NEEDS.iter().filter(|need| need.user.is_seen_by_tests())
}

/// A short text that changes with the rows that tests see: with what they have, not with the words
/// that explain them.
pub fn digest() -> String {
    let mut rows: Vec<_> = seen_by_tests()
        .map(|need| format!("{} {:?} {:?} {:?}", need.name, need.kind, need.user, need.without))
        .collect();
    rows.sort_unstable();
    // FNV-1a, 64 bits (Fowler, Noll, Vo): nobody has a reason to make two tables alike.
    let hash = rows.join("\n").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", hash >> 32)
}

/// Everything that tests, the demo and other commands use.
pub const NEEDS: &[Need] = &[
    // The build.
    program("cargo", Build, Fail, "builds everything; rustup's stable has it"),
    program("rustc", Build, Fail, "compiles; its version belongs to counts of instructions"),
    program("cc", Build, Install("gcc"), "links Rust programs; compiles for tests of DWARF"),
    program("as", Build, Install("binutils"), "assembles for gcc"),
    program("ld", Build, Install("binutils"), "links for gcc"),
    program("git", Build, Install("git"), "clones; measures other revisions"),
    // Guests.
    program("gcc", Guests, Install("gcc"), "compiles the agent of guests, and strangers"),
    file(
        "/usr/lib/x86_64-linux-gnu/libc.a",
        Guests,
        Install("libc6-dev"),
        "the agent is linked statically",
    ),
    file(
        "/usr/include/linux/inet_diag.h",
        Guests,
        Install("linux-libc-dev"),
        "the agent lists sockets",
    ),
    program("apt-get", Guests, Fail, "fetches and installs Debian packages"),
    program("apt-cache", Guests, Fail, "finds the newest kernels"),
    program("dpkg-deb", Guests, Install("dpkg"), "unpacks packages"),
    program("tar", Guests, Install("tar"), "unpacks single files of packages; packs images"),
    program("xz", Guests, Install("xz-utils"), "unpacks modules and recorded machines"),
    program("setpriv", Guests, Install("util-linux"), "ends guests with their tests"),
    program("unshare", Guests, Install("util-linux"), "makes namespaces"),
    program("bash", Guests, Install("bash"), "the shell of guests"),
    program("sh", Guests, Install("dash"), "runs scripts"),
    program("ldd", Guests, Install("libc-bin"), "lists the libraries of the guests' bash"),
    program("id", Guests, Install("coreutils"), "tells whether packages can be installed"),
    program("cp", Guests, Install("coreutils"), "copies the sparse memory of saved guests"),
    program("mkfs.ext4", Guests, Install("e2fsprogs"), "makes disks"),
    program("qemu-system-x86_64", Guests, Unpack("qemu-system-x86"), "runs guests; 9 or newer"),
    file("/etc/apt", Guests, Skip, "the mirror of this machine, and its keys"),
    file("/etc/ssl", Guests, Install("ca-certificates"), "certificates of mirrors and registries"),
    file("/etc/ld.so.cache", Guests, Skip, "the places of libraries"),
    file("/etc/alternatives", Guests, Skip, "cc, and other names with a choice"),
    file("/etc/nsswitch.conf", Guests, Skip, "where names are looked up"),
    file("/etc/passwd", Guests, Make, "users by their names"),
    file("/etc/group", Guests, Make, "groups by their names"),
    // Tests.
    program("ip", Test, Install("iproute2"), "makes interfaces, addresses and namespaces"),
    program(
        "tcpdump",
        Test,
        Install("tcpdump"),
        "captures packets; filters are compared with its own",
    ),
    library("libpcap.so.0.8", Test, Install("libpcap0.8"), "compiles filters of packets"),
    program("python3", Test, Install("python3"), "servers, clients and a lossy cable of tests"),
    program(
        "argus",
        Test,
        Unpack("argus-server"),
        "records of flows are compared with its own; version 3",
    ),
    argus_client("ra", "prints records of flows"),
    argus_client("rabins", "reads records of flows"),
    argus_client("racluster", "merges records of flows"),
    argus_client("ralabel", "reads records of flows"),
    argus_client("ranonymize", "reads records of flows"),
    argus_client("radump", "prints records of flows"),
    argus_client("rahisto", "prints records of flows"),
    argus_client("rarpwatch", "prints records of flows"),
    argus_client("raservices", "prints records of flows"),
    argus_client("rastrip", "prints records of flows"),
    argus_client("ratemplate", "prints records of flows"),
    argus_client("ratimerange", "prints records of flows"),
    argus_client("rauserdata", "prints records of flows"),
    argus_client("rasort", "sorts records of flows"),
    argus_client("rasqlinsert", "writes records of flows into MariaDB"),
    argus_client("ratop", "reads records of flows"),
    argus_client("radium", "passes on records of flows"),
    program("curl", Test, Unpack("curl"), "real traffic"),
    program("dig", Test, Unpack("bind9-dnsutils"), "real traffic"),
    program("dnsmasq", Test, Unpack("dnsmasq-base"), "real traffic: names and addresses"),
    program("dropbear", Test, Unpack("dropbear-bin"), "real traffic: a server of SSH"),
    program("dropbearkey", Test, Unpack("dropbear-bin"), "its key"),
    program("ssh-keygen", Test, Unpack("openssh-client"), "the key of its client; signs releases"),
    program("scp", Test, Unpack("openssh-client"), "real traffic"),
    program("ssh", Test, Unpack("openssh-client"), "real traffic"),
    program("iperf3", Test, Unpack("iperf3"), "real traffic"),
    program("nc.openbsd", Test, Unpack("netcat-openbsd"), "real traffic"),
    program("nmap", Test, Unpack("nmap"), "real traffic"),
    program("ping", Test, Unpack("iputils-ping"), "real traffic"),
    program("busybox", Test, Unpack("busybox"), "real traffic: a client of DHCP"),
    program("shellcheck", Test, Unpack("shellcheck"), "checks scripts of scenarios"),
    program("valgrind", Test, Unpack("valgrind"), "counts instructions"),
    file("/etc/hosts", Test, Make, "the address of localhost, and of this machine"),
    file("/etc/resolv.conf", Test, Make, "a resolver that answers nothing"),
    file("/etc/protocols", Test, Install("netbase"), "names of protocols"),
    file("/etc/services", Test, Install("netbase"), "names of ports"),
    device("/dev/null", Make, "an output that nobody reads"),
    device("/dev/zero", Make, "zeros"),
    device("/dev/full", Make, "an output without room"),
    device("/dev/urandom", Make, "random bytes"),
    device("/dev/tty", Make, "the terminal"),
    device("/dev/ptmx", Make, "terminals of tests"),
    device("/dev/pts", Make, "terminals of tests"),
    device("/dev/shm", Make, "shared memory"),
    device("/dev/fd", Make, "open files by their numbers"),
    device("/dev/stdin", Make, "standard input by its name"),
    device("/dev/net/tun", Make, "a network of guests"),
    device("/dev/fuse", Make, "a filesystem that does not answer"),
    program(
        "sleep",
        Test,
        Install("coreutils"),
        "a process of another user; a receiver that waits",
    ),
    program("true", Test, Install("coreutils"), "a program that may not run"),
    program("echo", Test, Install("coreutils"), "a program that is no QEMU"),
    program("printf", Test, Install("coreutils"), "a program that is no QEMU"),
    program("mkfifo", Test, Install("coreutils"), "a pipe with a name"),
    program("timeout", Test, Install("coreutils"), "bounds real traffic"),
    program("mount", Test, Install("mount"), "mounts files and folders in namespaces"),
    program("umount", Test, Install("mount"), "removes mounts"),
    program("getent", Test, Install("libc-bin"), "the address of this machine's name"),
    program("hostname", Test, Install("hostname"), "this machine's name"),
    program("yes", Test, Install("coreutils"), "output without end"),
    program("head", Test, Install("coreutils"), "output of some length"),
    program("cat", Test, Install("coreutils"), "scripts of tests"),
    file("/etc/argus.conf", Test, Make, "the default configuration of argus"),
    file("/etc/mke2fs.conf", Guests, Install("e2fsprogs"), "settings of disks"),
    file("/etc/ld.so.conf", Guests, Skip, "the places of libraries"),
    file("/proc/self/schedstat", Test, Skip, "counts how long a thread waits"),
    file("/proc/kcore", Test, Skip, "this machine's own memory"),
    file("/sys/kernel/btf/vmlinux", Test, Skip, "types of this machine's kernel"),
    program("qemu-system-aarch64", Arm64, Unpack("qemu-system-arm"), "runs guests of arm64"),
    // What only some machines have.
    feature("root", "other users' processes, mounts and interfaces"),
    feature("network namespaces", "interfaces of a test's own"),
    feature("mount namespaces", "files and folders of a test's own"),
    feature("user namespaces", "mounts without being root"),
    feature("AF_XDP sockets", "packets that bypass the kernel's stack"),
    feature("userfaultfd", "memory that is filled on demand"),
    feature("huge pages", "memory in pages of 2 MiB (vm.nr_hugepages)"),
    feature("many open files", "tables of mappings that are full"),
    feature("locked memory", "memory that is not swapped out"),
    feature("two processors", "threads beside each other"),
    feature("recorded images", "scans of recorded machines"),
    feature("argus 5", "records of version 5 are compared with its own"),
    program("tshark", Test, Skip, "applications are compared with what it decodes"),
    program("nfcapd", Test, Skip, "receives flows by IPFIX"),
    program("nfdump", Test, Skip, "prints flows by IPFIX"),
    program("umoci", Test, Skip, "makes images of containers"),
    program("skopeo", Test, Skip, "copies images of containers"),
    program("vol", Test, Skip, "Volatility 3 reads the same machine"),
    program("systemd-analyze", Test, Skip, "checks the unit"),
    program("systemd-sysusers", Test, Skip, "makes the user of the service"),
    program("systemd-tmpfiles", Test, Skip, "makes the folders of the service"),
    program("helm", Test, Skip, "checks the chart"),
    variable("PANOPTES_LONG", Test, "tests that take long"),
    variable("PANOPTES_RIG_ARM64", Test, "tests that emulate arm64"),
    variable("PANOPTES_IMAGES", Test, "images of one's own"),
    variable("PANOPTES_PYARROW", Test, "a Python with pyarrow, which reads columns"),
    variable("PANOPTES_PROMETHEUS", Test, "Prometheus, by cargo xtask metrics"),
    // Other commands.
    program("make", Shells, Install("make"), "builds bashes, and modules of kernels"),
    program(
        "musl-gcc",
        Shells,
        Install("musl-tools"),
        "builds bashes, and C code of static programs",
    ),
    file("/usr/include/readline/readline.h", Shells, Install("libreadline-dev"), "builds bashes"),
    program("mmdebstrap", Roots, Install("mmdebstrap"), "makes roots of Debian"),
    program("mkfs.xfs", Disks, Install("xfsprogs"), "makes disks"),
    program("mkfs.btrfs", Disks, Install("btrfs-progs"), "makes disks"),
    program("mksquashfs", Disks, Install("squashfs-tools"), "makes disks"),
    program("zstd", Disks, Install("zstd"), "unpacks modules of other kernels"),
    program("c++", Fuzz, Install("g++"), "compiles libFuzzer"),
    program("aarch64-linux-gnu-gcc", Arm64, Install("gcc-aarch64-linux-gnu"), "compiles for arm64"),
    program(
        "aarch64-linux-gnu-objdump",
        Arm64,
        Install("binutils-aarch64-linux-gnu"),
        "lists what a program needs",
    ),
    file(
        "/usr/aarch64-linux-gnu/lib/libc.a",
        Arm64,
        Install("libc6-dev-arm64-cross"),
        "the agent is linked statically",
    ),
    file(
        "/usr/aarch64-linux-gnu/include/linux/inet_diag.h",
        Arm64,
        Install("linux-libc-dev-arm64-cross"),
        "the agent lists sockets",
    ),
    program("rustup", Arm64, Fail, "adds the target"),
    program("taskset", Bench, Install("util-linux"), "ties programs to processors"),
    program("perf", Bench, Fail, "samples where time goes"),
    program("tcpreplay", Bench, Fail, "sends captures"),
    argus_client("racount", "counts records of flows"),
    program("node", Delivery, Skip, "a server of Forward"),
    program("npm", Delivery, Skip, "installs it"),
    program("chroot", Roots, Install("coreutils"), "enters a new machine"),
    program("dpkg-query", Roots, Install("dpkg"), "lists what was installed there"),
    program("env", Roots, Install("coreutils"), "starts with an environment of its own"),
    program("date", Release, Install("coreutils"), "the date of the package's changelog"),
    program("gzip", Release, Install("gzip"), "packs pages of the manual"),
    program("dpkg-shlibdeps", Release, Install("dpkg-dev"), "finds the package's libraries"),
    program("lintian", Release, Skip, "checks the package"),
    program("mdbook", ReleasePage, Compile, "makes the documentation a book"),
    program("cargo-generate-rpm", ReleasePage, Compile, "makes RPM packages"),
    program("cargo-cyclonedx", ReleasePage, Compile, "lists what the program is built of"),
    program("rpm", ReleasePage, Install("rpm"), "tries RPM packages"),
    program("podman", Release, Fail, "builds the container image"),
    program("bindgen", Release, Fail, "declares DOCA's C interface"),
];
