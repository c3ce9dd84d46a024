/*
 * The zoo: TCP sockets whose peer does not exist, in intermediate states.
 *
 * Peers are on dummy0, which drops every packet. The agent writes their answers through a raw
 * socket, with the numbers read from the outgoing packets.
 */
#include "workload.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <sys/socket.h>

#define LOCAL "198.51.100.1"
#define PEER "198.51.100.9"

enum { FIN = 1, SYN = 2, ACK = 16 };

struct segment {
	struct iphdr ip;
	uint16_t source, destination;
	uint32_t sequence, acknowledged;
	uint8_t offset, flags;
	uint16_t window, checksum, urgent;
} __attribute__((packed));

static int sniffer, sender;

static uint16_t checksum(const void *data, size_t length, uint32_t sum)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i + 1 < length; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* Sends a segment as if from the peer. */
static void answer(const char *from, uint16_t from_port, uint16_t to_port, uint32_t sequence,
		   uint32_t acknowledged, uint8_t flags)
{
	struct segment out = {
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP,
			.tot_len = htons(sizeof(out)) },
		.source = htons(from_port),
		.destination = htons(to_port),
		.sequence = htonl(sequence),
		.acknowledged = htonl(acknowledged),
		.offset = 5 << 4,
		.flags = flags,
		.window = htons(65535),
	};
	struct sockaddr_in to = { .sin_family = AF_INET };
	uint32_t pseudo = IPPROTO_TCP + sizeof(out) - sizeof(out.ip);

	inet_pton(AF_INET, from, &out.ip.saddr);
	inet_pton(AF_INET, LOCAL, &out.ip.daddr);
	to.sin_addr.s_addr = out.ip.daddr;
	for (int i = 0; i < 4; i++)
		pseudo += ntohs(((const uint16_t *)&out.ip.saddr)[i]);
	out.checksum = checksum(&out.source, sizeof(out) - sizeof(out.ip), pseudo);
	workload_check((int)sendto(sender, &out, sizeof(out), 0, (void *)&to, sizeof(to)),
		       "raw segment");
	usleep(20000);
}

/* Waits for a segment with these flags to that port of the peer's. */
static bool sniff(uint16_t port, uint8_t flags, struct segment *found)
{
	struct pollfd wait = { sniffer, POLLIN, 0 };

	while (poll(&wait, 1, 2000) > 0) {
		char packet[2048];
		ssize_t got = recv(sniffer, packet, sizeof(packet), 0);

		if (got < (ssize_t)sizeof(*found))
			continue;
		memcpy(found, packet, sizeof(*found));
		if (found->ip.version == 4 && found->ip.protocol == IPPROTO_TCP &&
		    found->destination == htons(port) && (found->flags & flags) == flags)
			return true;
	}
	workload_note("nothing was sent to the peer's port %u", port);
	return false;
}

/* A socket that requests a connection and gets no answer. */
static int ask(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, PEER, &to.sin_addr);
	connect(fd, (void *)&to, sizeof(to));
	return fd;
}

/* An established connection with a simulated peer. */
static int phantom(uint16_t port, struct segment *syn)
{
	int fd = ask(port);

	if (sniff(port, SYN, syn))
		answer(PEER, port, ntohs(syn->source), 1000, ntohl(syn->sequence) + 1, SYN | ACK);
	return fd;
}

static void finish(uint16_t port, const struct segment *syn)
{
	answer(PEER, port, ntohs(syn->source), 1001, ntohl(syn->sequence) + 1, FIN | ACK);
}

void zoo_phantoms(void *unused)
{
	struct sockaddr_ll device = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(7000) };
	struct segment syn;

	(void)unused;
	sniffer = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL)); /* Sees sent packets. */
	sender = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	device.sll_ifindex = (int)if_nametoindex("dummy0");
	workload_check(bind(sniffer, (void *)&device, sizeof(device)), "bind to dummy0");
	/* Retried at growing intervals, for as long as a test may take. */
	zoo_write("/proc/sys/net/ipv4/tcp_syn_retries", "100");
	zoo_write("/proc/sys/net/ipv4/tcp_synack_retries", "100");
	zoo_write("/proc/sys/net/ipv4/tcp_orphan_retries", "100");
	zoo_write("/proc/sys/net/ipv4/tcp_retries2", "100");
	int listener = workload_check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	workload_check(bind(listener, (void *)&any, sizeof(any)), "bind");
	workload_check(listen(listener, 100), "listen");
	/* SYN_RECEIVED: the peer requested a connection, and never confirmed. */
	for (uint16_t i = 0; i < 3; i++)
		answer(PEER, (uint16_t)(6000 + i), 7000, 5000, 0, SYN);
	ask(7001); /* SYN_SENT */
	phantom(7002, &syn); /* ESTABLISHED */
	/* FIN_WAIT_1: one held, one not. */
	shutdown(phantom(7003, &syn), SHUT_WR);
	close(phantom(7004, &syn));
	/* CLOSE_WAIT: the peer has finished, the agent has not. */
	phantom(7005, &syn);
	finish(7005, &syn);
	/* LAST_ACK: then the agent too, unconfirmed. */
	int fd = phantom(7006, &syn);
	finish(7006, &syn);
	shutdown(fd, SHUT_WR);
	fd = phantom(7007, &syn);
	finish(7007, &syn);
	close(fd);
	/* CLOSING: both at once. */
	fd = phantom(7008, &syn);
	shutdown(fd, SHUT_WR);
	finish(7008, &syn);
	fd = phantom(7009, &syn);
	close(fd);
	finish(7009, &syn);
	/* Data that the peer never confirmed. */
	fd = phantom(7010, &syn);
	if (write(fd, "unconfirmed", 11) != 11)
		workload_note("write to a phantom: %s", strerror(errno));
	close(sniffer);
	close(sender);
}
