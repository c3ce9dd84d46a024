/* From the kernel's start of init to a system for workloads: mounts, modules, network. */
#include "agent.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <net/if.h>
#include <net/route.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>

#define PORT_NAME "panoptes.agent"

/* struct in6_ifreq and in6_rtmsg of <linux/ipv6.h>, which conflicts with <netinet/in.h>. */
struct address6_request {
	struct in6_addr address;
	uint32_t prefix_length;
	int interface;
};

static void mount_one(const char *type, const char *where, unsigned long flags, const char *data)
{
	mkdir(where, 0755);
	if (mount(type, where, type, flags, data) != 0)
		fprintf(stderr, "agent: cannot mount %s on %s: %m\n", type, where);
}

static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return; /* Not every kernel has every knob. */
	if (write(fd, value, strlen(value)) < 0)
		fprintf(stderr, "agent: cannot write %s to %s: %m\n", value, path);
	close(fd);
}

static void load_modules(const char *names)
{
	FILE *list = fopen(names, "re");
	char path[256];

	if (!list)
		return;
	while (fgets(path, sizeof(path), list)) {
		path[strcspn(path, "\n")] = '\0';
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0)
			fprintf(stderr, "agent: cannot load %s: %m\n", path);
		if (fd >= 0)
			close(fd);
	}
	fclose(list);
}

static struct sockaddr inet(const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr out;

	inet_pton(AF_INET, address, &in.sin_addr);
	memcpy(&out, &in, sizeof(out));
	return out;
}

static void set_address(int fd, const char *interface, const char *address)
{
	struct ifreq request = { 0 };

	snprintf(request.ifr_name, IFNAMSIZ, "%s", interface);
	request.ifr_addr = inet(address);
	if (ioctl(fd, SIOCSIFADDR, &request) != 0)
		fprintf(stderr, "agent: cannot give %s to %s: %m\n", address, interface);
	request.ifr_netmask = inet("255.255.255.0");
	if (ioctl(fd, SIOCSIFNETMASK, &request) != 0)
		fprintf(stderr, "agent: cannot set the netmask of %s: %m\n", interface);
}

static void set_up(int fd, const char *interface)
{
	struct ifreq request = { 0 };

	snprintf(request.ifr_name, IFNAMSIZ, "%s", interface);
	if (ioctl(fd, SIOCGIFFLAGS, &request) == 0)
		request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		fprintf(stderr, "agent: cannot set %s up: %m\n", interface);
}

/* The kernel gives eth0 its fe80:: address some time after it is up. */
static void wait_for_link_local(void)
{
	for (int attempt = 0; attempt < 300; attempt++) {
		FILE *addresses = fopen("/proc/net/if_inet6", "re");
		char line[256];
		bool found = false;

		while (addresses && fgets(line, sizeof(line), addresses))
			found = found || (strncmp(line, "fe80", 4) == 0 && strstr(line, "eth0"));
		if (addresses)
			fclose(addresses);
		if (found)
			return;
		usleep(10000);
	}
	fprintf(stderr, "agent: eth0 got no link-local address\n");
}

/*
 * The kernel draws some of its secrets when they are first needed, and then patches its own code to
 * skip that step (net_get_random_once, lib/once.c). About once in a thousand boots, QEMU's TCG runs
 * the half-changed code on another CPU: the guest dies of an int3 in inet_ehashfn. So the secrets
 * are drawn here, while no other process uses the network.
 */
static void draw_secrets(int family)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} to = { 0 };
	socklen_t length = family == AF_INET ? sizeof(to.in) : sizeof(to.in6);
	struct linger at_once = { .l_onoff = 1 };

	to.any.sa_family = (sa_family_t)family;
	if (family == AF_INET)
		to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		to.in6.sin6_addr = in6addr_loopback;
	for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
		int server = socket(family, type | SOCK_CLOEXEC, 0);
		int client = socket(family, type | SOCK_CLOEXEC, 0);
		int accepted = -1;

		if (bind(server, &to.any, length) != 0 || getsockname(server, &to.any, &length) != 0 ||
		    (type == SOCK_STREAM && listen(server, 1) != 0) || connect(client, &to.any, length) != 0 ||
		    write(client, "", 1) != 1)
			fprintf(stderr, "agent: cannot use the network: %m\n");
		else if (type == SOCK_STREAM)
			accepted = accept(server, NULL, NULL);
		/* Leaves no TIME_WAIT behind. */
		setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close(client);
		close(accepted);
		close(server);
		if (family == AF_INET)
			to.in.sin_port = 0;
		else
			to.in6.sin6_port = 0;
	}
}

static void configure_network(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int fd6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
	struct address6_request address6 = { .prefix_length = 64 };

	/* Addresses must not change: no router advertisements, no duplicate detection. */
	set("/proc/sys/net/ipv6/conf/all/accept_ra", "0");
	set("/proc/sys/net/ipv6/conf/default/accept_ra", "0");
	set("/proc/sys/net/ipv6/conf/eth0/accept_ra", "0");
	set("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
	set("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
	set("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0");
	set_up(fd, "lo");
	set_address(fd, "eth0", "10.0.2.15");
	set_address(fd, "eth0:1", "10.0.2.16");
	set_up(fd, "eth0");
	route.rt_gateway = inet("10.0.2.2");
	route.rt_dst = inet("0.0.0.0");
	route.rt_genmask = inet("0.0.0.0");
	if (ioctl(fd, SIOCADDRT, &route) != 0)
		fprintf(stderr, "agent: cannot add the default route: %m\n");
	inet_pton(AF_INET6, "fd00::15", &address6.address);
	address6.interface = (int)if_nametoindex("eth0");
	if (ioctl(fd6, SIOCSIFADDR, &address6) != 0)
		fprintf(stderr, "agent: cannot give fd00::15 to eth0: %m\n");
	/* An interface that drops every packet: peers there never answer. */
	set_address(fd, "dummy0", "198.51.100.1");
	set_up(fd, "dummy0");
	close(fd);
	close(fd6);
	draw_secrets(AF_INET);
	draw_secrets(AF_INET6);
	wait_for_link_local();
}

/* Limits that are high enough for the biggest workloads. */
static void raise_limits(void)
{
	struct rlimit files = { 1 << 20, 1 << 20 };
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	set("/proc/sys/fs/inotify/max_user_instances", "100000");
	set("/proc/sys/kernel/pid_max", "4194304");
	set("/proc/sys/kernel/threads-max", "200000");
	set("/proc/sys/vm/max_map_count", "1048576");
	set("/proc/sys/fs/file-max", "4000000");
	set("/proc/sys/fs/nr_open", "1048576");
	set("/proc/sys/net/core/somaxconn", "65535");
	set("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535");
	set("/proc/sys/vm/overcommit_memory", "1");
	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_NPROC, &all);
	setrlimit(RLIMIT_MEMLOCK, &all);
	setrlimit(RLIMIT_SIGPENDING, &all);
}

#define ROOT_ON_DISK "/root-on-disk"

static bool copy(const char *from, const char *to)
{
	int source = open(from, O_RDONLY | O_CLOEXEC);
	int target = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	char buffer[1 << 16];
	ssize_t got = -1;

	while (source >= 0 && target >= 0 && (got = read(source, buffer, sizeof(buffer))) > 0)
		if (write(target, buffer, (size_t)got) != got)
			break;
	close(source);
	close(target);
	return got == 0;
}

/* Copies the guest's additional files, which are in the initramfs. */
static void copy_files(const char *names)
{
	FILE *list = fopen(names, "re");
	char path[256], target[512];

	while (list && fgets(path, sizeof(path), list)) {
		path[strcspn(path, "\n")] = '\0';
		snprintf(target, sizeof(target), "%s%s", ROOT_ON_DISK, path);
		if (!copy(path, target))
			fprintf(stderr, "agent: cannot copy %s to the disk: %m\n", path);
	}
	if (list)
		fclose(list);
}

/* If the initramfs has this folder, the root is on the first disk; the agent there continues. */
static void move_to_disk(void)
{
	if (access(ROOT_ON_DISK, F_OK) != 0)
		return;
	mount_one("devtmpfs", "/dev", 0, "mode=0755");
	load_modules("/modules/list");
	load_modules("/modules/disk");
	/* The disk appears some time after its module was loaded. */
	for (int attempt = 0; attempt < 500 && access("/dev/vda", F_OK) != 0; attempt++)
		usleep(10000);
	if (mount("/dev/vda", ROOT_ON_DISK, "ext4", 0, NULL) == 0) {
		copy_files("/modules/files");
		/* The additional modules are loaded there. */
		copy("/modules/more", ROOT_ON_DISK "/modules/more");
		if (chdir(ROOT_ON_DISK) == 0 && mount(".", "/", NULL, MS_MOVE, NULL) == 0 &&
		    chroot(".") == 0 && chdir("/") == 0)
			execl("/init", "/init", NULL);
	}
	fprintf(stderr, "agent: cannot move to the disk: %m\n");
	for (;;)
		pause(); /* The rig prints the console when its wait ends. */
}

void boot(void)
{
	umask(022);
	move_to_disk();
	mount_one("proc", "/proc", 0, NULL);
	mount_one("sysfs", "/sys", 0, NULL);
	mount_one("cgroup2", "/sys/fs/cgroup", 0, NULL);
	mount_one("devtmpfs", "/dev", 0, "mode=0755");
	mount_one("devpts", "/dev/pts", 0, "mode=0620,ptmxmode=0666");
	mount_one("tmpfs", "/dev/shm", 0, NULL);
	mount_one("mqueue", "/dev/mqueue", 0, NULL);
	mount_one("tmpfs", "/run", 0, "mode=0755");
	mount_one("tmpfs", "/tmp", 0, "mode=1777");
	raise_limits();
	load_modules("/modules/list");
	load_modules("/modules/more");
	configure_network();
	if (sethostname("guest", 5) != 0)
		fprintf(stderr, "agent: cannot set the host name: %m\n");
	setenv("PATH", "/bin:/usr/bin:/usr/sbin", 1);
	setenv("HOME", "/root", 1);
	if (chdir("/") != 0)
		fprintf(stderr, "agent: cannot enter /: %m\n");
}

/*
 * A serial port, for a kernel whose modules are not to be had: the drivers of virtio are among
 * them. What the host sent before is lost, so the agent says by itself that the guest is up.
 */
static int open_serial(const char *path)
{
	struct termios raw;
	int port = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (port < 0 || tcgetattr(port, &raw) != 0)
		return -1;
	cfmakeraw(&raw);
	cfsetspeed(&raw, B115200);
	return tcsetattr(port, TCSANOW, &raw) == 0 && write(port, "=ok\n", 4) == 4 ? port : -1;
}

/* Opens the command channel: the port that the rig names, else the virtio port of that name. */
int boot_open_port(void)
{
	const char *class = "/sys/class/virtio-ports";
	const char *serial = getenv("agent_port");

	if (serial)
		return open_serial(serial);
	for (int attempt = 0; attempt < 500; attempt++) {
		DIR *ports = opendir(class);
		struct dirent *entry;

		while (ports && (entry = readdir(ports))) {
			char path[512], name[64] = "";
			FILE *file;

			snprintf(path, sizeof(path), "%s/%s/name", class, entry->d_name);
			file = fopen(path, "re");
			if (!file)
				continue;
			if (!fgets(name, sizeof(name), file))
				name[0] = '\0';
			fclose(file);
			name[strcspn(name, "\n")] = '\0';
			if (strcmp(name, PORT_NAME) != 0)
				continue;
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			closedir(ports);
			return open(path, O_RDWR | O_CLOEXEC);
		}
		if (ports)
			closedir(ports);
		usleep(10000);
	}
	errno = ENODEV;
	return -1;
}
