/* The zoo: descriptors that are no files, one of every kind in this kernel. */
#include "workload.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/dma-buf.h>
#include <linux/filter.h>
#include <linux/if_alg.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/udmabuf.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#define HOUSE "/tmp/zoo/kinds/"

/* Newer than the headers of some build hosts. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

static void events(void)
{
	struct itimerspec far = { .it_value.tv_sec = 1 << 30 };
	struct epoll_event readable = { .events = EPOLLIN };
	sigset_t signals;

	int event = workload_check(eventfd(7, EFD_CLOEXEC), "eventfd");
	eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
	int epoll = workload_check(epoll_create1(EPOLL_CLOEXEC), "epoll");
	workload_check(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &readable), "epoll_ctl");
	int timer = workload_check(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), "timerfd");
	workload_check(timerfd_settime(timer, 0, &far, NULL), "timerfd_settime");
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	workload_check(signalfd(-1, &signals, SFD_CLOEXEC), "signalfd");
	int inotify = workload_check(inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "inotify");
	workload_check(inotify_add_watch(inotify, HOUSE, IN_CREATE), "inotify_add_watch");
	int fanotify = workload_check(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY), "fanotify");
	workload_check(fanotify_mark(fanotify, FAN_MARK_ADD, FAN_CLOSE_WRITE, AT_FDCWD, HOUSE),
		       "fanotify_mark");
}

static void memory_files(void)
{
	char name[250];

	memset(name, 'm', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	int plain = workload_check(memfd_create("plain", 0), "memfd");
	if (plain >= 0 && write(plain, "content", 7) < 0)
		workload_note("write to a memfd: %s", strerror(errno));
	memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	memfd_create("", MFD_CLOEXEC);
	memfd_create("odd \xff\n\"name", MFD_CLOEXEC);
	workload_check(memfd_create("huge", MFD_HUGETLB), "memfd of huge pages");
	int sealed = workload_check(memfd_create("sealed", MFD_ALLOW_SEALING), "memfd");
	workload_check(fcntl(sealed, F_ADD_SEALS,
			     F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE),
		       "seals");
	int secret = workload_check((int)syscall(SYS_memfd_secret, O_CLOEXEC), "secret memory");
	if (secret >= 0 && ftruncate(secret, 8192) == 0 &&
	    mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, secret, 0) == MAP_FAILED)
		workload_note("map secret memory: %s", strerror(errno));
	int buffer = workload_check(memfd_create("dma", MFD_ALLOW_SEALING), "memfd");
	int device = open("/dev/udmabuf", O_RDWR);
	if (device >= 0 && ftruncate(buffer, 1 << 16) == 0 &&
	    fcntl(buffer, F_ADD_SEALS, F_SEAL_SHRINK) == 0) {
		struct udmabuf_create create = { .memfd = (unsigned)buffer, .size = 1 << 16 };

		workload_check(ioctl(device, UDMABUF_CREATE, &create), "DMA buffer");
		int named = workload_check(ioctl(device, UDMABUF_CREATE, &create), "DMA buffer");
		workload_check(ioctl(named, DMA_BUF_SET_NAME_B, "a name of mine"), "its name");
		named = workload_check(ioctl(device, UDMABUF_CREATE, &create), "DMA buffer");
		workload_check(ioctl(named, DMA_BUF_SET_NAME_B, "thirty-one bytes, the longest  "),
			       "its name");
		if (mmap(NULL, 4096, PROT_READ, MAP_SHARED, named, 0) == MAP_FAILED)
			workload_note("map a DMA buffer: %s", strerror(errno));
	} else {
		workload_note("no /dev/udmabuf here");
	}
}

static int bpf(int command, union bpf_attr *attributes)
{
	return (int)syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

static int bpf_program(unsigned type, unsigned attach, int result)
{
	struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = result },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attributes = { .prog_type = type,
				      .insn_cnt = 2,
				      .insns = (uintptr_t)code,
				      .license = (uintptr_t) "GPL",
				      .expected_attach_type = attach };

	return bpf(BPF_PROG_LOAD, &attributes);
}

/* A type table with only an int. */
static int bpf_types(void)
{
	struct {
		uint16_t magic;
		uint8_t version, flags;
		uint32_t header_length, type_offset, type_length, string_offset, string_length;
		uint32_t name, info, size, encoding;
		char strings[8];
	} blob = { 0xeb9f, 1, 0, 24, 0, 16, 16, 5, 1, 1u << 24, 4, 32, "\0int" };
	union bpf_attr attributes = { .btf = (uintptr_t)&blob, .btf_size = 24 + 16 + 5 };

	return bpf(BPF_BTF_LOAD, &attributes);
}

static void programs(void)
{
	union bpf_attr map = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1
	};
	struct perf_event_attr clock = { .type = PERF_TYPE_SOFTWARE,
					 .size = sizeof(clock),
					 .config = PERF_COUNT_SW_CPU_CLOCK,
					 .disabled = 1 };
	struct io_uring_params ring = { 0 };

	workload_check(bpf(BPF_MAP_CREATE, &map), "BPF map");
	workload_check(bpf_program(BPF_PROG_TYPE_SOCKET_FILTER, 0, 0), "BPF program");
	workload_check(bpf_types(), "BPF types");
	int lookup = workload_check(bpf_program(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, 1),
				    "BPF program for lookups");
	union bpf_attr link = { .link_create = { .prog_fd = (unsigned)lookup,
						 .target_fd = (unsigned)open("/proc/self/ns/net",
									     O_RDONLY),
						 .attach_type = BPF_SK_LOOKUP } };
	workload_check(bpf(BPF_LINK_CREATE, &link), "BPF link");
	workload_check((int)syscall(SYS_perf_event_open, &clock, 0, -1, -1, 0), "perf_event");
	workload_check((int)syscall(SYS_io_uring_setup, 4, &ring), "io_uring");
	workload_check((int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), "userfaultfd");
}

static void others(void)
{
	static const char *const namespaces[] = { "cgroup", "ipc",  "mnt",	       "net",
						  "pid",    "time", "time_for_children", "user",
						  "uts",    "pid_for_children" };
	uint64_t landlock = 1;
	char path[64];

	for (size_t i = 0; i < sizeof(namespaces) / sizeof(*namespaces); i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s", namespaces[i]);
		zoo_open(path, O_RDONLY);
	}
	workload_check((int)syscall(SYS_pidfd_open, getpid(), 0), "pidfd");
	workload_check((int)syscall(SYS_pidfd_open, 1, O_NONBLOCK), "pidfd");
	workload_check((int)syscall(SYS_fsopen, "tmpfs", 0), "fsopen");
	workload_check((int)syscall(SYS_open_tree, AT_FDCWD, "/tmp", OPEN_TREE_CLONE), "open_tree");
	workload_check((int)syscall(SYS_landlock_create_ruleset, &landlock, sizeof(landlock), 0),
		       "landlock");
	struct sock_filter allow = { .code = BPF_RET | BPF_K, .k = SECCOMP_RET_ALLOW };
	struct sock_fprog filter = { 1, &allow };
	workload_check((int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				    SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter),
		       "seccomp");
}

static void sockets(void)
{
	struct sockaddr_un named = { .sun_family = AF_UNIX, .sun_path = HOUSE "socket" };
	struct sockaddr_un abstract = { .sun_family = AF_UNIX, .sun_path = "\0abstract" };
	struct sockaddr_in local = { .sin_family = AF_INET };
	int pair[2];

	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair);
	socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair);
	int listener = workload_check(socket(AF_UNIX, SOCK_STREAM, 0), "unix socket");
	workload_check(bind(listener, (void *)&named, sizeof(named)), "bind");
	workload_check(listen(listener, 4), "listen");
	bind(socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&abstract, 12);
	zoo_open(HOUSE "socket", O_PATH);
	bind(socket(AF_INET, SOCK_DGRAM, 0), (void *)&local, sizeof(local));
	workload_check(socket(AF_INET6, SOCK_DGRAM, 0), "udp6");
	workload_check(socket(AF_INET, SOCK_STREAM, 0), "tcp");
	workload_check(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "raw socket");
	workload_check(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), "netlink");
	workload_check(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT), "netlink");
	workload_check(socket(AF_PACKET, SOCK_RAW, 0), "packet socket");
	workload_check(socket(AF_PACKET, SOCK_DGRAM, 0), "packet socket");
	workload_check(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), "raw socket of IPv6");
	zoo_write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
	workload_check(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), "ping socket");
	workload_check(socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6), "ping socket of IPv6");
	workload_check(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP), "multipath TCP");
	workload_check(socket(AF_VSOCK, SOCK_STREAM, 0), "vsock");
	workload_check(socket(AF_CAN, SOCK_RAW, 1 /* CAN_RAW */), "CAN");
	workload_check(socket(AF_BLUETOOTH, SOCK_RAW, 1 /* BTPROTO_HCI */), "Bluetooth");
	workload_check(socket(AF_XDP, SOCK_RAW, 0), "XDP");
	struct sockaddr_alg hash = { .salg_family = AF_ALG, .salg_type = "hash",
				     .salg_name = "sha256" };
	int algorithm = workload_check(socket(AF_ALG, SOCK_SEQPACKET, 0), "algorithm");
	if (algorithm >= 0 &&
	    workload_check(bind(algorithm, (void *)&hash, sizeof(hash)), "sha256") == 0)
		workload_check(accept(algorithm, NULL, NULL), "algorithm's operation");
}

/* A new terminal, by its two names; in a separate process, which may lead a session. */
static void terminal(void *unused)
{
	char path[64];

	(void)unused;
	setsid();
	int master = workload_check(posix_openpt(O_RDWR | O_NOCTTY), "pty");
	if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0 ||
	    ptsname_r(master, path, sizeof(path)) != 0)
		return;
	zoo_open(path, O_RDWR);
	zoo_open("/dev/tty", O_RDWR);
}

void zoo_kinds(void *unused)
{
	(void)unused;
	mkdir(HOUSE, 0755);
	events();
	memory_files();
	programs();
	sockets();
	workload_start("zoo-terminal", terminal, NULL);
	others();
}
