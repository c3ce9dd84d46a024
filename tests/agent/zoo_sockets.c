/* The zoo: TCP sockets with both ends in the guest, in every state that both agree on. */
#include "workload.h"

#include <arpa/inet.h>
#include <sched.h>
#include <netinet/tcp.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int socket_of(int family)
{
	return workload_check(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
}

static int listen_at(const char *address, int port, int backlog)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	bool six = strchr(address, ':') != NULL;
	int fd = socket_of(six ? AF_INET6 : AF_INET), yes = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes));
	if (six)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes));
	inet_pton(AF_INET, address, &in4.sin_addr);
	inet_pton(AF_INET6, address, &in6.sin6_addr);
	workload_check(bind(fd, six ? (void *)&in6 : (void *)&in4,
			    six ? sizeof(in6) : sizeof(in4)),
		       address);
	workload_check(listen(fd, backlog), "listen");
	return fd;
}

static void listeners(void)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(8084) };
	int both = socket_of(AF_INET6), no = 0;

	listen_at("0.0.0.0", 8080, 16);
	listen_at("::", 8081, 16);
	listen_at("127.0.0.1", 8082, 16);
	listen_at("10.0.2.15", 8083, 16);
	listen_at("fd00::15", 8083, 16);
	listen_at("0.0.0.0", 8080, 16); /* Two on one port. */
	setsockopt(both, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	workload_check(bind(both, (void *)&any, sizeof(any)), "bind both");
	workload_check(listen(both, 16), "listen");
	/* Bound but not listening: in no table of connections. */
	any.sin6_port = htons(8085);
	workload_check(bind(socket_of(AF_INET6), (void *)&any, sizeof(any)), "bind");
	/* Bound to a device. */
	int bound = socket_of(AF_INET);
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(8086) };
	workload_check(setsockopt(bound, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5), "bind to eth0");
	workload_check(bind(bound, (void *)&at, sizeof(at)), "bind");
	workload_check(listen(bound, 16), "listen");
}

/* A connection to one of the guest's addresses, through a listener that stays or is closed. */
static void connect_to(const char *address, int listener, int port, int *client, int *server)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	bool six = strchr(address, ':') != NULL;

	inet_pton(AF_INET, address, &in4.sin_addr);
	inet_pton(AF_INET6, address, &in6.sin6_addr);
	*client = socket_of(six ? AF_INET6 : AF_INET);
	workload_check(connect(*client, six ? (void *)&in6 : (void *)&in4,
			       six ? sizeof(in6) : sizeof(in4)),
		       address);
	*server = workload_check(accept(listener, NULL, NULL), "accept");
}

static void exchange(int client, int server, size_t out, size_t in)
{
	static char bytes[1 << 16];

	for (size_t left = out; left > 0;) {
		ssize_t sent = write(client, bytes, left > 4096 ? 4096 : left);

		if (sent <= 0 || recv(server, bytes, (size_t)sent, MSG_WAITALL) != sent)
			break;
		left -= (size_t)sent;
	}
	for (size_t left = in; left > 0;) {
		ssize_t sent = write(server, bytes, left > 1000 ? 1000 : left);

		if (sent <= 0 || recv(client, bytes, (size_t)sent, MSG_WAITALL) != sent)
			break;
		left -= (size_t)sent;
	}
}

static void holders(int client)
{
	/* The same socket in a second process, and twice in this one. */
	dup(client);
	if (workload_check(fork(), "fork") == 0)
		workload_sleep();
}

static void closing_states(int family)
{
	int client, server;
	struct linger reset = { 1, 0 };

	/* CLOSE_WAIT, and FIN_WAIT_2 that is still held. */
	if (tcp_pair(family, &client, &server))
		shutdown(client, SHUT_WR);
	/* CLOSE_WAIT, and FIN_WAIT_2 without a holder, kept as a full socket. */
	zoo_write("/proc/sys/net/ipv4/tcp_fin_timeout", "86400");
	if (tcp_pair(family, &client, &server))
		close(client);
	/* The same in the small form, as a kind of TIME_WAIT. */
	zoo_write("/proc/sys/net/ipv4/tcp_fin_timeout", "60");
	if (tcp_pair(family, &client, &server))
		close(client);
	/* TIME_WAIT. */
	if (tcp_pair(family, &client, &server)) {
		close(client);
		close(server);
	}
	/* CLOSED, but still held. */
	if (tcp_pair(family, &client, &server)) {
		setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(client);
	}
}

/* A full queue: connections that are not accepted, and one that waits to connect. */
static void backlog(void)
{
	int listener = listen_at("127.0.0.1", 8090, 1);
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(8090) };

	(void)listener;
	inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
	for (int i = 0; i < 2; i++) {
		int client = socket_of(AF_INET);

		fcntl(client, F_SETFL, O_NONBLOCK);
		connect(client, (void *)&at, sizeof(at));
		usleep(50000);
		if (write(client, "unread", 6) != 6)
			workload_note("a queued connection takes no data: %s", strerror(errno));
	}
}

/* Multipath TCP: the connections in the tables are subflows, without descriptors of their own. */
static void multipath(int family)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	struct sockaddr_in in4 = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr *address = family == AF_INET ? (void *)&in4 : (void *)&in6;
	socklen_t size = family == AF_INET ? sizeof(in4) : sizeof(in6);
	int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
	int client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
	char bytes[8];

	workload_check(listener, "multipath TCP");
	if (bind(listener, address, size) != 0 || listen(listener, 4) != 0 ||
	    getsockname(listener, address, &size) != 0 || connect(client, address, size) != 0) {
		workload_note("multipath TCP: %s", strerror(errno));
		return;
	}
	int server = workload_check(accept(listener, NULL, NULL), "accept");
	if (write(client, "there", 5) != 5 || read(server, bytes, sizeof(bytes)) != 5 ||
	    write(server, "back", 4) != 4 || read(client, bytes, sizeof(bytes)) != 4)
		workload_note("multipath TCP sends nothing: %s", strerror(errno));
}

/* Puts a descriptor into a message that nobody receives. */
static void send_descriptor(int through, int descriptor)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec byte = { "x", 1 };
	struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = room,
				  .msg_controllen = sizeof(room) };
	struct cmsghdr *control = CMSG_FIRSTHDR(&message);

	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(control), &descriptor, sizeof(int));
	workload_check((int)sendmsg(through, &message, 0), "send a descriptor");
	close(descriptor);
}

/* A connection whose descriptor is in a message: no process holds it. */
static void in_flight(void)
{
	int pair[2], client, server;

	if (!tcp_pair(AF_INET, &client, &server) || socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) != 0)
		return;
	send_descriptor(pair[0], server);
}

/*
 * Its address belongs to eth0, its route to dummy0. The kernel drops a socket's route after
 * tcp_retries1 retransmissions (tcp_retransmit_timer): a slow guest would lose it before a scan.
 */
static void crosswise(void)
{
	struct sockaddr_in from = { .sin_family = AF_INET }, to = { .sin_family = AF_INET,
								     .sin_port = htons(7099) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	zoo_write("/proc/sys/net/ipv4/tcp_syn_retries", "100");
	zoo_write("/proc/sys/net/ipv4/tcp_retries1", "255");
	inet_pton(AF_INET, "10.0.2.15", &from.sin_addr);
	inet_pton(AF_INET, "198.51.100.9", &to.sin_addr);
	workload_check(bind(fd, (void *)&from, sizeof(from)), "bind");
	connect(fd, (void *)&to, sizeof(to));
}

/*
 * A network namespace of no process, held by a mount, with its last process's sockets: some end
 * after a minute, and one is in a message.
 */
static void left_network(int messages)
{
	int client, server;
	/* A workload has no descriptor of the one that starts it, and this needs one. */
	pid_t pid = workload_check(fork(), "fork");

	if (pid != 0) {
		/* Without the child, this would wait for another one. */
		if (pid > 0)
			waitpid(pid, NULL, 0);
		return;
	}
	zoo_write("/tmp/zoo/left-network", "");
	workload_check(unshare(CLONE_NEWNET), "unshare network");
	if (mount("/proc/self/ns/net", "/tmp/zoo/left-network", NULL, MS_BIND, NULL) != 0)
		workload_note("bind a network: %s", strerror(errno));
	if (system("ip link set lo up") != 0)
		workload_note("lo does not come up");
	if (tcp_pair(AF_INET, &client, &server)) {
		close(client);
		close(server);
	}
	send_descriptor(messages, listen_at("127.0.0.1", 7098, 4));
	_exit(0);
}

void zoo_sockets(void *unused)
{
	static const struct {
		const char *listen, *connect;
		size_t out, in;
	} pairs[] = {
		{ "127.0.0.1", "127.0.0.1", 0, 0 },
		{ "10.0.2.15", "10.0.2.15", 100000, 5 },
		{ "0.0.0.0", "10.0.2.16", 1, 20000 },
		{ "::1", "::1", 4096, 4096 },
		{ "fd00::15", "fd00::15", 10, 0 },
	};
	int client = -1, server = -1;

	(void)unused;
	listeners();
	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		int port = 9000 + (int)i;
		int listener = listen_at(pairs[i].listen, port, 4);

		connect_to(pairs[i].connect, listener, port, &client, &server);
		exchange(client, server, pairs[i].out, pairs[i].in);
		close(listener);
	}
	holders(client);
	/* IPv4-mapped: both ends are IPv6 sockets. */
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(9100) };
	int both = socket_of(AF_INET6), no = 0;
	setsockopt(both, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	workload_check(bind(both, (void *)&any, sizeof(any)), "bind");
	workload_check(listen(both, 4), "listen");
	connect_to("::ffff:127.0.0.1", both, 9100, &client, &server);
	exchange(client, server, 77, 88);
	connect_to("127.0.0.1", both, 9100, &client, &server);
	closing_states(AF_INET);
	closing_states(AF_INET6);
	backlog();
	multipath(AF_INET);
	multipath(AF_INET6);
	in_flight();
	crosswise();
	int messages[2];
	if (workload_check(socketpair(AF_UNIX, SOCK_DGRAM, 0, messages), "socketpair") == 0)
		left_network(messages[0]);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}
