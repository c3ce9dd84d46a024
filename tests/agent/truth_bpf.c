/*
 * Truth about eBPF: programs, maps and links by their numbers, as the kernel tells them to root.
 */
#include "truth.h"

#include <linux/bpf.h>
#include <sys/syscall.h>

#define TEXT_BYTES 128

static const char *const program_types[] = {
	"unspec", "socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp",
	"perf_event", "cgroup_skb", "cgroup_sock", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops",
	"sk_skb", "cgroup_device", "sk_msg", "raw_tracepoint", "cgroup_sock_addr",
	"lwt_seg6local", "lirc_mode2", "sk_reuseport", "flow_dissector", "cgroup_sysctl",
	"raw_tracepoint_writable", "cgroup_sockopt", "tracing", "struct_ops", "ext", "lsm",
	"sk_lookup", "syscall", "netfilter",
};

static const char *const map_types[] = {
	"unspec", "hash", "array", "prog_array", "perf_event_array", "percpu_hash", "percpu_array",
	"stack_trace", "cgroup_array", "lru_hash", "lru_percpu_hash", "lpm_trie", "array_of_maps",
	"hash_of_maps", "devmap", "sockmap", "cpumap", "xskmap", "sockhash", "cgroup_storage",
	"reuseport_sockarray", "percpu_cgroup_storage", "queue", "stack", "sk_storage",
	"devmap_hash", "struct_ops", "ringbuf",
};

static const char *const link_types[] = {
	"unspec", "raw_tracepoint", "tracing", "cgroup", "iter", "netns", "xdp", "perf_event",
};

#define NAME_OF(names, number) \
	((number) < sizeof(names) / sizeof(*(names)) ? (names)[number] : "newer than the test")

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* Opens the object behind `*id`, and moves `*id` to it. Returns -1 at the end. */
static int next(int next_command, int open_command, unsigned int *id)
{
	union bpf_attr attr;

	for (;;) {
		memset(&attr, 0, sizeof(attr));
		attr.start_id = *id;
		if (bpf(next_command, &attr) < 0)
			return -1;
		*id = attr.next_id;
		memset(&attr, 0, sizeof(attr));
		attr.prog_id = *id;
		int fd = bpf(open_command, &attr);
		if (fd >= 0)
			return fd;
	}
}

static bool info_of(int fd, void *info, size_t bytes)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = (unsigned int)fd;
	attr.info.info_len = (unsigned int)bytes;
	attr.info.info = (uintptr_t)info;
	bool is_known = bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) == 0;

	close(fd);
	return is_known;
}

static void begin(const char *object, unsigned int id, const char *type)
{
	json_begin("ebpf_object");
	json_string("ebpf_object", object);
	json_unsigned("ebpf_id", id);
	json_string("ebpf_type", type);
	json_null("ebpf_is_unlisted");
}

static void name_or_null(const char *name)
{
	if (*name)
		json_string("ebpf_name", name);
	else
		json_null("ebpf_name");
}

static void program(const struct bpf_prog_info *info)
{
	char tag[2 * BPF_TAG_SIZE + 1];

	for (int i = 0; i < BPF_TAG_SIZE; i++)
		snprintf(tag + 2 * i, 3, "%02x", info->tag[i]);
	begin("program", info->id, NAME_OF(program_types, info->type));
	name_or_null(info->name);
	json_string("ebpf_tag", tag);
	json_unsigned("ebpf_instruction_count", info->xlated_prog_len / sizeof(struct bpf_insn));
	if (info->jited_prog_len)
		json_unsigned("ebpf_image_size", info->jited_prog_len);
	else
		json_null("ebpf_image_size");
	json_unsigned("ebpf_load_time", info->load_time);
	json_unsigned("ebpf_user_id", info->created_by_uid);
	json_unsigned("ebpf_map_count", info->nr_map_ids);
	json_end();
}

static void map(const struct bpf_map_info *info)
{
	begin("map", info->id, NAME_OF(map_types, info->type));
	name_or_null(info->name);
	json_unsigned("ebpf_key_size", info->key_size);
	json_unsigned("ebpf_value_size", info->value_size);
	json_unsigned("ebpf_max_entries", info->max_entries);
	json_unsigned("ebpf_map_flags", info->map_flags);
	json_end();
}

static void a_link(const struct bpf_link_info *info, const char *text)
{
	begin("link", info->id, NAME_OF(link_types, info->type));
	json_unsigned("ebpf_program_id", info->prog_id);
	switch (info->type) {
	case BPF_LINK_TYPE_RAW_TRACEPOINT:
		json_string("ebpf_target_tracepoint", text);
		break;
	case BPF_LINK_TYPE_CGROUP:
		json_unsigned("ebpf_target_control_group_id", info->cgroup.cgroup_id);
		break;
	case BPF_LINK_TYPE_XDP:
		json_unsigned("ebpf_target_interface_index", info->xdp.ifindex);
		break;
	case BPF_LINK_TYPE_NETNS: {
		char name[32];

		snprintf(name, sizeof(name), "net:[%u]", info->netns.netns_ino);
		json_string("ebpf_target_network_namespace", name);
		break;
	}
	default:
		break;
	}
	json_end();
}

void truth_bpf(void)
{
	int fd;

	for (unsigned int id = 0;
	     (fd = next(BPF_PROG_GET_NEXT_ID, BPF_PROG_GET_FD_BY_ID, &id)) >= 0;) {
		struct bpf_prog_info info = { 0 };

		if (info_of(fd, &info, sizeof(info)))
			program(&info);
	}
	for (unsigned int id = 0;
	     (fd = next(BPF_MAP_GET_NEXT_ID, BPF_MAP_GET_FD_BY_ID, &id)) >= 0;) {
		struct bpf_map_info info = { 0 };

		if (info_of(fd, &info, sizeof(info)))
			map(&info);
	}
	for (unsigned int id = 0;
	     (fd = next(BPF_LINK_GET_NEXT_ID, BPF_LINK_GET_FD_BY_ID, &id)) >= 0;) {
		struct bpf_link_info info = { 0 };
		char text[TEXT_BYTES] = "";
		int again = dup(fd);

		if (!info_of(fd, &info, sizeof(info))) {
			close(again);
			continue;
		}
		if (info.type == BPF_LINK_TYPE_RAW_TRACEPOINT) {
			memset(&info, 0, sizeof(info));
			info.raw_tracepoint.tp_name = (uintptr_t)text;
			info.raw_tracepoint.tp_name_len = sizeof(text);
			info_of(again, &info, sizeof(info));
		} else {
			close(again);
		}
		a_link(&info, text);
	}
}
