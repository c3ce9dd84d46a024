/* Programs, maps and links of eBPF, which the agent holds until a command closes them. */
#include "netlink.h"
#include "workload.h"

#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define HELD_MAX 64
#define INSTRUCTIONS_MAX 16
#define LOG_BYTES 4096
#define ATTACHED_MAX 8
#define TRACING "/sys/kernel/tracing"
#define PIN_ROOT "/sys/fs/bpf"
#define PIN_FOLDER PIN_ROOT "/folder"
#define PIN_PATH PIN_FOLDER "/filter"
/* The interface of attachments without a link; the link of XDP is at another one. */
#define DUMMY "dummy0"

#define CODE(operation, to, from, distance, constant)                         \
	((struct bpf_insn){ .code = (operation), .dst_reg = (to), .src_reg = (from), \
			    .off = (distance), .imm = (constant) })
/* `to = constant`, `to = from`, `to += constant`, `*(u64 *)(to + distance) = constant`. */
#define SET(to, constant) CODE(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, constant)
#define COPY(to, from) CODE(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define ADD(to, constant) CODE(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, constant)
#define STORE(to, distance, constant) CODE(BPF_ST | BPF_MEM | BPF_DW, to, 0, distance, constant)
#define CALL(helper) CODE(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define EXIT CODE(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define RETURN(constant) SET(0, constant), EXIT
/* The address of a map, which takes two instructions. */
#define MAP(to, map) CODE(BPF_LD | BPF_DW | BPF_IMM, to, BPF_PSEUDO_MAP_FD, 0, map), \
	CODE(0, 0, 0, 0, 0)

static int held[HELD_MAX];
static size_t held_count;

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* Keeps a descriptor. Notes a feature that the kernel refuses. */
static int hold(int fd, const char *what)
{
	if (fd < 0)
		out_say("refused: %s: %s", what, strerror(errno));
	else if (held_count < HELD_MAX)
		held[held_count++] = fd;
	return fd;
}

static int map(const char *name, int type, unsigned int key, unsigned int value,
	       unsigned int entries)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = type;
	attr.key_size = key;
	attr.value_size = value;
	attr.max_entries = entries;
	snprintf(attr.map_name, sizeof(attr.map_name), "%s", name);
	return hold(bpf(BPF_MAP_CREATE, &attr), name);
}

static int program(const char *name, int type, int attach, const struct bpf_insn *code,
		   size_t count)
{
	static char log[LOG_BYTES];
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = type;
	attr.expected_attach_type = attach;
	attr.insns = (uintptr_t)code;
	attr.insn_cnt = count;
	attr.license = (uintptr_t) "GPL";
	attr.log_buf = (uintptr_t)log;
	attr.log_size = sizeof(log);
	attr.log_level = 1;
	snprintf(attr.prog_name, sizeof(attr.prog_name), "%s", name);
	log[0] = '\0';
	int fd = hold(bpf(BPF_PROG_LOAD, &attr), name);

	if (fd < 0 && log[0])
		out_say("refused: %.400s", log);
	return fd;
}

#define PROGRAM(name, type, attach, ...)                                             \
	program(name, type, attach, (const struct bpf_insn[]){ __VA_ARGS__ },        \
		sizeof((const struct bpf_insn[]){ __VA_ARGS__ }) / sizeof(struct bpf_insn))

static void attach(const char *what, int fd, int target, int type)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = (unsigned int)fd;
	attr.link_create.target_fd = (unsigned int)target;
	attr.link_create.attach_type = (unsigned int)type;
	hold(bpf(BPF_LINK_CREATE, &attr), what);
}

static void attach_to_tracepoint(int fd, const char *tracepoint)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.raw_tracepoint.name = (uintptr_t)tracepoint;
	attr.raw_tracepoint.prog_fd = (unsigned int)fd;
	hold(bpf(BPF_RAW_TRACEPOINT_OPEN, &attr), tracepoint);
}

/* `BPF_TCX_INGRESS`, which older headers lack. */
#define TCX_INGRESS 46

/* The place and the type of an attachment without a link, which a command must undo. */
static struct {
	int fd, target, type;
} attached[ATTACHED_MAX];
static size_t attached_count;
static bool has_xdp;

static int change_attachment(int command, int fd, int target, int type)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (unsigned int)target;
	attr.attach_bpf_fd = (unsigned int)fd;
	attr.attach_type = (unsigned int)type;
	return bpf(command, &attr);
}

/* Attaches a program without a link. */
static void place(const char *what, int fd, int target, int type)
{
	if (change_attachment(BPF_PROG_ATTACH, fd, target, type) < 0) {
		/* Kernels up to 6.5 do not know tcx. */
		if (type != TCX_INGRESS || errno != EINVAL)
			out_say("refused: %s: %s", what, strerror(errno));
	} else if (attached_count < ATTACHED_MAX) {
		attached[attached_count].fd = fd;
		attached[attached_count].target = target;
		attached[attached_count++].type = type;
	}
}

/* Sets the program that an interface runs without its driver; -1: none. */
static void set_xdp(int fd)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
		struct rtattr nest, program;
		int fd;
		struct rtattr flags;
		unsigned int mode;
	} ask = {
		.header = { .nlmsg_len = sizeof(ask),
			    .nlmsg_type = RTM_SETLINK,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.link = { .ifi_index = (int)if_nametoindex(DUMMY) },
		.nest = { .rta_len = 3 * sizeof(struct rtattr) + 2 * sizeof(int),
			  .rta_type = IFLA_XDP | NLA_F_NESTED },
		.program = { .rta_len = RTA_LENGTH(sizeof(int)), .rta_type = IFLA_XDP_FD },
		.fd = fd,
		.flags = { .rta_len = RTA_LENGTH(sizeof(int)), .rta_type = IFLA_XDP_FLAGS },
		.mode = XDP_FLAGS_SKB_MODE,
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char more[256];
	} answer = { .error.error = -EIO };
	int route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (send(route, &ask, sizeof(ask), 0) > 0)
		recv(route, &answer, sizeof(answer), 0);
	close(route);
	has_xdp = fd >= 0 && answer.error.error == 0;
	if (answer.error.error)
		out_say("refused: a program by netlink: %s", strerror(-answer.error.error));
}

/* Lets a performance event run a program. */
static void set_event(int fd)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr) };
	FILE *file;

	if (mount("tracefs", TRACING, "tracefs", 0, NULL) < 0 && errno != EBUSY)
		out_say("refused: tracefs: %s", strerror(errno));
	file = fopen(TRACING "/events/sched/sched_process_fork/id", "re");
	if (!file || fscanf(file, "%llu", (unsigned long long *)&attr.config) != 1)
		out_say("refused: the number of an event");
	if (file)
		fclose(file);
	int event = hold((int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC),
			 "a performance event");

	if (ioctl(event, PERF_EVENT_IOC_SET_BPF, fd) < 0)
		out_say("refused: a program of an event: %s", strerror(errno));
}

/* A filter needs `tc`'s modules, which guests do not have. */
static void place_all(void)
{
	int group = hold(open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "a group");
	int devices = PROGRAM("devices", BPF_PROG_TYPE_CGROUP_DEVICE, 0, RETURN(1));
	int connects = PROGRAM("connects", BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
			       BPF_CGROUP_INET4_CONNECT, RETURN(1));
	int classifier = PROGRAM("classifier", BPF_PROG_TYPE_SCHED_CLS, 0, RETURN(0));

	place("devices of a group", devices, group, BPF_CGROUP_DEVICE);
	place("connections of a group", connects, group, BPF_CGROUP_INET4_CONNECT);
	place("tcx", classifier, (int)if_nametoindex(DUMMY), TCX_INGRESS);
	set_event(PROGRAM("forks", BPF_PROG_TYPE_TRACEPOINT, 0, RETURN(0)));
	set_xdp(PROGRAM("by_netlink", BPF_PROG_TYPE_XDP, 0, RETURN(XDP_PASS)));
}

/* Lets a file hold an object, in a bpffs that stays mounted. */
static void pin(int fd)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.pathname = (uintptr_t)PIN_PATH;
	attr.bpf_fd = (unsigned int)fd;
	if (mount("bpf", PIN_ROOT, "bpf", 0, NULL) < 0 && errno != EBUSY)
		out_say("refused: bpffs: %s", strerror(errno));
	else if (mkdir(PIN_FOLDER, 0700) < 0 || bpf(BPF_OBJ_PIN, &attr) < 0)
		out_say("refused: a pin: %s", strerror(errno));
}

static void displace_all(void)
{
	unlink(PIN_PATH);
	rmdir(PIN_FOLDER);
	while (attached_count > 0) {
		attached_count--;
		change_attachment(BPF_PROG_DETACH, attached[attached_count].fd,
				  attached[attached_count].target, attached[attached_count].type);
	}
	if (has_xdp)
		set_xdp(-1);
}

static const char *open_all(void)
{
	int array = map("an_array", BPF_MAP_TYPE_ARRAY, 4, 24, 3);

	map("a.hash", BPF_MAP_TYPE_HASH, 16, 8, 100);
	map("", BPF_MAP_TYPE_LRU_HASH, 4, 4, 64);
	map("a_ring", BPF_MAP_TYPE_RINGBUF, 0, 0, 1 << 16);
	int filter = PROGRAM("filter", BPF_PROG_TYPE_SOCKET_FILTER, 0, MAP(1, array), RETURN(0));
	PROGRAM("", BPF_PROG_TYPE_TRACEPOINT, 0, RETURN(1));
	/* Nothing is attached to it: it only exists. */
	PROGRAM("writes_to_user", BPF_PROG_TYPE_KPROBE, 0, STORE(10, -8, 0), SET(1, 0),
		COPY(2, 10), ADD(2, -8), SET(3, 8), CALL(BPF_FUNC_probe_write_user), RETURN(0));
	PROGRAM("signals", BPF_PROG_TYPE_KPROBE, 0, SET(1, 0), CALL(BPF_FUNC_send_signal),
		RETURN(0));
	PROGRAM("asks", BPF_PROG_TYPE_KPROBE, 0, CALL(BPF_FUNC_get_current_pid_tgid), RETURN(0));
	int raw = PROGRAM("raw", BPF_PROG_TYPE_RAW_TRACEPOINT, 0, RETURN(0));
	attach_to_tracepoint(raw, "sched_process_fork");
	int egress = PROGRAM("egress", BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS, RETURN(1));
	int group = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	attach("a link to a control group", egress, group, BPF_CGROUP_INET_EGRESS);
	close(group);
	int packets = PROGRAM("packets", BPF_PROG_TYPE_XDP, 0, RETURN(XDP_PASS));
	attach("a link to an interface", packets, (int)if_nametoindex("lo"), BPF_XDP);
	int flows = PROGRAM("flows", BPF_PROG_TYPE_FLOW_DISSECTOR, 0, RETURN(0));
	int net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	attach("a link to a network namespace", flows, net, BPF_FLOW_DISSECTOR);
	close(net);
	place_all();
	pin(filter);
	return NULL;
}

static const char *close_all(void)
{
	displace_all();
	while (held_count > 0)
		close(held[--held_count]);
	return NULL;
}

const char *bpf_command(const char *arguments)
{
	if (strcmp(arguments, "open") == 0)
		return open_all();
	if (strcmp(arguments, "close") == 0)
		return close_all();
	return "bpf needs open or close";
}
