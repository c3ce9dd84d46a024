/*
 * Truth about TCP sockets and network interfaces, in every network namespace.
 *
 * Sockets come from sock_diag (as in ss(8)), with the counters of tcp_info; truth_files() noted
 * their holders. Sockets that are closed, or only bound, are in no table of connections and are not
 * reported; newer kernels would list them.
 */
#include "truth.h"
#include "netlink.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <sched.h>
#include <sys/stat.h>

/* include/net/tcp_states.h; user space has these only with a struct tcp_info that is too old. */
enum { TCP_CLOSE = 7, TCP_LISTEN = 10, TCP_BOUND_INACTIVE = 13 };

struct holder {
	unsigned long inode;
	int pid, index;
};

struct namespace {
	unsigned long inode;
	char path[64];
};

static struct holder *holders;
static size_t holder_count, holder_room;
static struct namespace namespaces[256];
static size_t namespace_count;

/* The namespace being reported. */
static char namespace_name[64];
static struct interfaces interfaces;

void network_note_holder(unsigned long inode, int pid, int index)
{
	if (holder_count == holder_room) {
		size_t room = holder_room ? holder_room * 2 : 1024;
		struct holder *larger = realloc(holders, room * sizeof(*holders));

		if (!larger)
			return;
		holders = larger;
		holder_room = room;
	}
	holders[holder_count++] = (struct holder){ inode, pid, index };
}

void network_note_namespace(unsigned long inode, const char *path)
{
	for (size_t i = 0; i < namespace_count; i++)
		if (namespaces[i].inode == inode)
			return;
	if (namespace_count == sizeof(namespaces) / sizeof(*namespaces))
		return;
	namespaces[namespace_count].inode = inode;
	snprintf(namespaces[namespace_count].path, sizeof(namespaces->path), "%s", path);
	namespace_count++;
}

void network_forget(void)
{
	holder_count = 0;
	namespace_count = 0;
}

static int by_inode(const void *left, const void *right)
{
	const struct holder *l = left, *r = right;

	if (l->inode != r->inode)
		return l->inode < r->inode ? -1 : 1;
	if (l->pid != r->pid)
		return l->pid < r->pid ? -1 : 1;
	return (l->index > r->index) - (l->index < r->index);
}

static const char *state_name(int state)
{
	static const char *const names[] = {
		"?",	       "ESTABLISHED", "SYN_SENT", "SYN_RECEIVED", "FIN_WAIT_1",
		"FIN_WAIT_2",  "TIME_WAIT",   "CLOSED",	  "CLOSE_WAIT",	  "LAST_ACK",
		"LISTEN",      "CLOSING",     "SYN_RECEIVED",
	};

	return state > 0 && state < (int)(sizeof(names) / sizeof(*names)) ? names[state] : "?";
}

/* An address as text; IPv4-mapped IPv6 as IPv4. */
static void address_text(int family, const __be32 *address, char *text, size_t size)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (family == AF_INET6 && memcmp(address, mapped, sizeof(mapped)) == 0) {
		family = AF_INET;
		address += 3;
	}
	inet_ntop(family, address, text, (socklen_t)size);
}

/* The bound device, else the route's, else the owner of the local address. */
static const struct interface *interface_of(const struct inet_diag_msg *socket, const char *source,
					    const char *destination)
{
	int index = (int)socket->id.idiag_if;

	if (index == 0 && socket->idiag_state != TCP_LISTEN)
		index = netlink_route(source, destination);
	return index > 0 ? interface_by_index(&interfaces, index) :
			   interface_by_address(&interfaces, source);
}

static void average(const char *key, unsigned long long bytes, unsigned segments)
{
	if (segments > 0 && bytes / segments > 0)
		json_unsigned(key, bytes / segments);
}

static void connection_line(const struct inet_diag_msg *socket, const struct tcp_info *counters,
			    const struct holder *holder)
{
	char source[INET6_ADDRSTRLEN], destination[INET6_ADDRSTRLEN];

	address_text(socket->idiag_family, socket->id.idiag_src, source, sizeof(source));
	address_text(socket->idiag_family, socket->id.idiag_dst, destination, sizeof(destination));
	json_begin("connection");
	if (holder) {
		json_integer("process_id", holder->pid);
		json_integer("file_descriptor_id", holder->index);
	}
	json_string("connection_state", state_name(socket->idiag_state));
	json_string("protocol", "TCP");
	json_string("source_ip_address", source);
	json_integer("source_port", ntohs(socket->id.idiag_sport));
	json_string("destination_ip_address", destination);
	json_integer("destination_port", ntohs(socket->id.idiag_dport));
	if (counters && socket->idiag_state != TCP_LISTEN) {
		json_unsigned("tcp_bytes_in", counters->tcpi_bytes_received);
		json_unsigned("tcp_bytes_out", counters->tcpi_bytes_sent);
		json_unsigned("tcp_segments_in", counters->tcpi_segs_in);
		json_unsigned("tcp_segments_out", counters->tcpi_segs_out);
		average("tcp_average_bytes_in", counters->tcpi_bytes_received,
			counters->tcpi_data_segs_in);
		average("tcp_average_bytes_out", counters->tcpi_bytes_sent,
			counters->tcpi_data_segs_out);
	}
	const struct interface *interface = interface_of(socket, source, destination);
	if (interface)
		interface_keys(interface);
	json_string("network_namespace", namespace_name);
	json_end();
}

/* One line for each holder of a socket, or one for a socket without holders. */
static void one_socket(const struct inet_diag_msg *socket, size_t length)
{
	struct tcp_info counters;
	const struct rtattr *info = netlink_attribute(socket + 1, length - sizeof(*socket),
						      INET_DIAG_INFO);
	const struct tcp_info *known = NULL;
	size_t low = 0, high = holder_count;

	if (info) {
		size_t size = RTA_PAYLOAD(info);

		memset(&counters, 0, sizeof(counters));
		memcpy(&counters, RTA_DATA(info), size < sizeof(counters) ? size : sizeof(counters));
		known = &counters;
	}
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (holders[middle].inode < socket->idiag_inode)
			low = middle + 1;
		else
			high = middle;
	}
	if (socket->idiag_inode == 0 || low == holder_count ||
	    holders[low].inode != socket->idiag_inode) {
		connection_line(socket, known, NULL);
		return;
	}
	for (size_t i = low; i < holder_count && holders[i].inode == socket->idiag_inode; i++)
		if (i == low || by_inode(&holders[i - 1], &holders[i]) != 0)
			connection_line(socket, known, &holders[i]);
}

static void socket_message(const struct nlmsghdr *message, void *context)
{
	(void)context;
	if (message->nlmsg_type == SOCK_DIAG_BY_FAMILY &&
	    message->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
		one_socket(NLMSG_DATA(message), message->nlmsg_len - NLMSG_LENGTH(0));
}

static const char *sockets(int family)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 request;
	} ask = {
		.header = { .nlmsg_len = sizeof(ask),
			    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.request = { .sdiag_family = (unsigned char)family,
			     .sdiag_protocol = IPPROTO_TCP,
			     .idiag_ext = 1 << (INET_DIAG_INFO - 1),
			     .idiag_states = 0xffff & ~(1 << TCP_CLOSE | 1 << TCP_BOUND_INACTIVE) },
	};

	return netlink_dump(NETLINK_SOCK_DIAG, &ask.header, socket_message, NULL);
}

static const char *one_namespace(const struct namespace *namespace, bool want_connections,
				 bool want_interfaces)
{
	const char *error;
	int fd = open(namespace->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL; /* Its last process ended meanwhile. */
	if (setns(fd, CLONE_NEWNET) != 0) {
		close(fd);
		return "cannot enter a network namespace";
	}
	close(fd);
	snprintf(namespace_name, sizeof(namespace_name), "net:[%lu]", namespace->inode);
	error = interfaces_read(&interfaces);
	if (!error && want_connections)
		error = sockets(AF_INET);
	if (!error && want_connections)
		error = sockets(AF_INET6);
	for (size_t i = 0; !error && want_interfaces && i < interfaces.count; i++) {
		json_begin("interface");
		interface_keys(&interfaces.items[i]);
		json_string("network_namespace", namespace_name);
		json_end();
	}
	interfaces_free(&interfaces);
	netlink_close();
	return error;
}

/* Namespaces held only by a mount, as made by `ip netns add`:
 * "… net:[4026532001] /run/… - nsfs …". */
static void mounted_namespaces(void)
{
	char *bytes;

	if (proc_read("/proc/self/mountinfo", &bytes) < 0)
		return;
	for (char *line = strtok(bytes, "\n"); line; line = strtok(NULL, "\n")) {
		unsigned long inode;
		char path[64];

		if (sscanf(line, "%*d %*d %*s net:[%lu] %63s", &inode, path) == 2)
			network_note_namespace(inode, path);
	}
}

const char *truth_network(const struct processes *all, bool connections, bool interface_lines)
{
	const char *error = NULL;
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	for (size_t i = 0; i < all->count; i++) {
		char path[64];
		struct stat inode;

		snprintf(path, sizeof(path), "/proc/%d/ns/net", all->items[i].pid);
		if (stat(path, &inode) == 0)
			network_note_namespace(inode.st_ino, path);
	}
	mounted_namespaces();
	if (holder_count)
		qsort(holders, holder_count, sizeof(*holders), by_inode);
	for (size_t i = 0; i < namespace_count && !error; i++)
		error = one_namespace(&namespaces[i], connections, interface_lines);
	if (own >= 0) {
		if (setns(own, CLONE_NEWNET) != 0)
			error = "cannot return to the first network namespace";
		close(own);
	}
	return error;
}
