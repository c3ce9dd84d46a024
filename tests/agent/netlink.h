/* Questions to the kernel over netlink, and the network interfaces it answers with. */
#ifndef NETLINK_H
#define NETLINK_H

#include "agent.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

struct interface {
	int index;
	char name[16];
	char mac[24]; /* Empty if it has none. */
	char (*ipv4)[16];
	char (*ipv6)[48];
	size_t ipv4_count, ipv6_count;
};

struct interfaces {
	struct interface *items;
	size_t count;
};

typedef void netlink_visit(const struct nlmsghdr *message, void *context);

/* Requests a dump in the present network namespace, and passes each message to `visit`. */
const char *netlink_dump(int protocol, struct nlmsghdr *ask, netlink_visit *visit, void *context);
const struct rtattr *netlink_attribute(const void *first, size_t length, unsigned short type);
/* The index of the interface on the route between two addresses; 0 if there is none. */
int netlink_route(const char *source, const char *destination);
/* Closes the sockets, which stay open between requests (for a change of namespace). */
void netlink_close(void);

const char *interfaces_read(struct interfaces *all);
void interfaces_free(struct interfaces *all);
const struct interface *interface_by_index(const struct interfaces *all, int index);
const struct interface *interface_by_address(const struct interfaces *all, const char *address);
void interface_keys(const struct interface *interface);

#endif
