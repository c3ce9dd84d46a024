/* Questions to the kernel over netlink, and the network interfaces it answers with. */
#include "netlink.h"

#include <arpa/inet.h>
#include <sys/socket.h>

static int route_socket = -1;

const struct rtattr *netlink_attribute(const void *first, size_t length, unsigned short type)
{
	for (const struct rtattr *at = first; RTA_OK(at, length); at = RTA_NEXT(at, length))
		if (at->rta_type == type)
			return at;
	return NULL;
}

const char *netlink_dump(int protocol, struct nlmsghdr *ask, netlink_visit *visit, void *context)
{
	static char buffer[1 << 16] __attribute__((aligned(8)));
	const char *error = "netlink ended early";
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return "no netlink socket";
	if (send(fd, ask, ask->nlmsg_len, 0) < 0)
		goto done;
	for (;;) {
		ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
		const struct nlmsghdr *message = (const void *)buffer;

		if (got <= 0)
			goto done;
		for (size_t left = (size_t)got; NLMSG_OK(message, left);
		     message = NLMSG_NEXT(message, left)) {
			if (message->nlmsg_type == NLMSG_DONE) {
				error = NULL;
				goto done;
			}
			if (message->nlmsg_type == NLMSG_ERROR) {
				error = "the kernel refused a netlink dump";
				goto done;
			}
			visit(message, context);
		}
	}
done:
	close(fd);
	return error;
}

void netlink_close(void)
{
	if (route_socket >= 0)
		close(route_socket);
	route_socket = -1;
}

static void put_address(struct nlmsghdr *header, unsigned short type, const char *text, int family)
{
	struct rtattr *at = (void *)((char *)header + NLMSG_ALIGN(header->nlmsg_len));
	size_t size = family == AF_INET ? 4 : 16;

	at->rta_type = type;
	at->rta_len = (unsigned short)RTA_LENGTH(size);
	inet_pton(family, text, RTA_DATA(at));
	header->nlmsg_len = NLMSG_ALIGN(header->nlmsg_len) + RTA_ALIGN(at->rta_len);
}

int netlink_route(const char *source, const char *destination)
{
	int family = strchr(destination, ':') ? AF_INET6 : AF_INET;
	struct {
		struct nlmsghdr header;
		struct rtmsg route;
		char addresses[64];
	} ask = {
		.header = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)),
			    .nlmsg_type = RTM_GETROUTE,
			    .nlmsg_flags = NLM_F_REQUEST },
		.route = { .rtm_family = (unsigned char)family,
			   .rtm_dst_len = family == AF_INET ? 32 : 128,
			   .rtm_src_len = family == AF_INET ? 32 : 128 },
	};
	static char buffer[8192] __attribute__((aligned(8)));
	const struct nlmsghdr *answer = (const void *)buffer;

	if (strcmp(destination, "0.0.0.0") == 0 || strcmp(destination, "::") == 0)
		return 0;
	put_address(&ask.header, RTA_DST, destination, family);
	put_address(&ask.header, RTA_SRC, source, family);
	if (route_socket < 0)
		route_socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (route_socket < 0 || send(route_socket, &ask, ask.header.nlmsg_len, 0) < 0)
		return 0;
	ssize_t got = recv(route_socket, buffer, sizeof(buffer), 0);
	if (got <= 0 || !NLMSG_OK(answer, (size_t)got) || answer->nlmsg_type != RTM_NEWROUTE)
		return 0;
	const struct rtmsg *route = NLMSG_DATA(answer);
	const struct rtattr *device = netlink_attribute(
		RTM_RTA(route), answer->nlmsg_len - NLMSG_LENGTH(sizeof(*route)), RTA_OIF);
	return device ? *(const int *)RTA_DATA(device) : 0;
}

static void link_message(const struct nlmsghdr *message, void *context)
{
	struct interfaces *all = context;
	const struct ifinfomsg *link = NLMSG_DATA(message);
	size_t length = message->nlmsg_len - NLMSG_LENGTH(sizeof(*link));
	const struct rtattr *name = netlink_attribute(IFLA_RTA(link), length, IFLA_IFNAME);
	const struct rtattr *mac = netlink_attribute(IFLA_RTA(link), length, IFLA_ADDRESS);
	struct interface *larger;

	if (message->nlmsg_type != RTM_NEWLINK || !name)
		return;
	larger = realloc(all->items, (all->count + 1) * sizeof(*larger));
	if (!larger)
		return;
	all->items = larger;
	struct interface *interface = &all->items[all->count++];
	*interface = (struct interface){ .index = link->ifi_index };
	snprintf(interface->name, sizeof(interface->name), "%s", (const char *)RTA_DATA(name));
	if (mac && RTA_PAYLOAD(mac) == 6) {
		const unsigned char *b = RTA_DATA(mac);

		snprintf(interface->mac, sizeof(interface->mac), "%02x:%02x:%02x:%02x:%02x:%02x",
			 b[0], b[1], b[2], b[3], b[4], b[5]);
	}
}

static void address_message(const struct nlmsghdr *message, void *context)
{
	struct interfaces *all = context;
	const struct ifaddrmsg *entry = NLMSG_DATA(message);
	size_t length = message->nlmsg_len - NLMSG_LENGTH(sizeof(*entry));
	const struct rtattr *address = netlink_attribute(IFA_RTA(entry), length, IFA_LOCAL);
	struct interface *interface;

	if (!address) /* For IPv6, the attribute's name if there is no peer. */
		address = netlink_attribute(IFA_RTA(entry), length, IFA_ADDRESS);
	interface = (struct interface *)interface_by_index(all, (int)entry->ifa_index);
	if (message->nlmsg_type != RTM_NEWADDR || !address || !interface)
		return;
	if (entry->ifa_family == AF_INET) {
		void *larger = realloc(interface->ipv4, (interface->ipv4_count + 1) * 16);

		if (!larger)
			return;
		interface->ipv4 = larger;
		inet_ntop(AF_INET, RTA_DATA(address), interface->ipv4[interface->ipv4_count++], 16);
	} else if (entry->ifa_family == AF_INET6) {
		void *larger = realloc(interface->ipv6, (interface->ipv6_count + 1) * 48);

		if (!larger)
			return;
		interface->ipv6 = larger;
		inet_ntop(AF_INET6, RTA_DATA(address), interface->ipv6[interface->ipv6_count++], 48);
	}
}

const char *interfaces_read(struct interfaces *all)
{
	struct {
		struct nlmsghdr header;
		struct rtgenmsg family;
	} ask = {
		.header = { .nlmsg_len = sizeof(ask),
			    .nlmsg_type = RTM_GETLINK,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.family = { AF_UNSPEC },
	};
	const char *error;

	all->items = NULL;
	all->count = 0;
	error = netlink_dump(NETLINK_ROUTE, &ask.header, link_message, all);
	ask.header.nlmsg_type = RTM_GETADDR;
	return error ? error : netlink_dump(NETLINK_ROUTE, &ask.header, address_message, all);
}

void interfaces_free(struct interfaces *all)
{
	for (size_t i = 0; i < all->count; i++) {
		free(all->items[i].ipv4);
		free(all->items[i].ipv6);
	}
	free(all->items);
	all->items = NULL;
	all->count = 0;
}

const struct interface *interface_by_index(const struct interfaces *all, int index)
{
	for (size_t i = 0; i < all->count; i++)
		if (all->items[i].index == index)
			return &all->items[i];
	return NULL;
}

const struct interface *interface_by_address(const struct interfaces *all, const char *address)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct interface *interface = &all->items[i];

		for (size_t j = 0; j < interface->ipv4_count; j++)
			if (strcmp(interface->ipv4[j], address) == 0)
				return interface;
		for (size_t j = 0; j < interface->ipv6_count; j++)
			if (strcmp(interface->ipv6[j], address) == 0)
				return interface;
	}
	return NULL;
}

void interface_keys(const struct interface *interface)
{
	json_string("workload_network_interface_name", interface->name);
	if (interface->mac[0])
		json_string("workload_network_interface_mac_address", interface->mac);
	json_list("workload_network_interface_ipv4_address");
	for (size_t i = 0; i < interface->ipv4_count; i++)
		json_list_text(interface->ipv4[i], strlen(interface->ipv4[i]));
	json_list_end();
	json_list("workload_network_interface_ipv6_address");
	for (size_t i = 0; i < interface->ipv6_count; i++)
		json_list_text(interface->ipv6[i], strlen(interface->ipv6[i]));
	json_list_end();
}
