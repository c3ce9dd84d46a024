/* Load by number: processes, threads, descriptors, memory areas, connections; all asleep. */
#include "workload.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define THREAD_STACK_BYTES (64 << 10)

struct amounts {
	long processes, threads, fds, areas, connections;
};

static pid_t load_pid = -1;
static pid_t fds_pid = -1;

/* One more descriptor, of a kind that depends on its number; some kinds come in pairs. */
static int one_descriptor(long process, long number)
{
	char path[128];
	int pair[2] = { -1, -1 };
	sigset_t none;

	snprintf(path, sizeof(path), "/tmp/load/%ld-%ld", process, number);
	switch (number % 12) {
	case 0:
	case 1:
		return open(path, O_RDWR | O_CREAT, 0640);
	case 2:
		return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	case 3: {
		int fd = open(path, O_RDWR | O_CREAT, 0600);

		unlink(path);
		return fd;
	}
	case 4:
		return eventfd(0, EFD_NONBLOCK);
	case 5:
		return epoll_create1(0);
	case 6:
		return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	case 7:
		sigemptyset(&none);
		return signalfd(-1, &none, 0);
	case 8:
		return (int)syscall(SYS_memfd_create, "load", 0u);
	case 9:
		return pipe(pair);
	case 10:
		return socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	default:
		return open("/dev/null", O_RDWR);
	}
}

static void *thread(void *name)
{
	prctl(PR_SET_NAME, name);
	workload_sleep();
}

static void threads(long count)
{
	static char names[64][16];
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
	/* The first one is the process itself. */
	for (long i = 1; i < count; i++) {
		pthread_t handle;
		char *name = names[i % 64];

		snprintf(name, sizeof(names[0]), "worker-%ld", i % 64);
		if (pthread_create(&handle, &attributes, thread, name) != 0) {
			workload_note("thread %ld could not be made", i);
			return;
		}
	}
}

static void areas(long count)
{
	for (long i = 0; i < count; i++) {
		/* Neighbours differ, so that they do not merge. */
		int protection = i % 2 ? PROT_READ : PROT_READ | PROT_WRITE;
		char *area = mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (area == MAP_FAILED) {
			workload_note("area %ld: %s", i, strerror(errno));
			return;
		}
		if (i % 2 == 0)
			*area = 1;
	}
}

static void one_process(const struct amounts *amounts, long number)
{
	char name[16];

	snprintf(name, sizeof(name), "load-%ld", number);
	prctl(PR_SET_NAME, name);
	for (long i = 0, made = 0; made < amounts->fds; i++, made++) {
		if (workload_check(one_descriptor(number, i), "descriptor") < 0)
			break;
		if (i % 12 == 9 || i % 12 == 10)
			made++;
	}
	for (long i = 0; i < amounts->connections; i++) {
		int client, server;

		if (!tcp_pair(i % 2 ? AF_INET6 : AF_INET, &client, &server)) {
			workload_note("connection %ld: %s", i, strerror(errno));
			break;
		}
	}
	areas(amounts->areas);
	threads(amounts->threads);
}

static void many(void *argument)
{
	const struct amounts *amounts = argument;
	int ends[2];
	char byte;

	mkdir("/tmp/load", 0755);
	if (workload_check(pipe2(ends, O_CLOEXEC), "pipe") < 0)
		return;
	for (long i = 0; i < amounts->processes; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			close(ends[0]);
			one_process(amounts, i);
			if (write(ends[1], "x", 1) != 1)
				_exit(1);
			close(ends[1]);
			workload_sleep();
		}
		if (workload_check(pid, "fork") < 0)
			break;
	}
	close(ends[1]);
	while (read(ends[0], &byte, 1) == 1)
		;
	close(ends[0]);
}

const char *load(const char *arguments)
{
	struct amounts amounts = {
		.processes = workload_number(arguments, "processes", 10),
		.threads = workload_number(arguments, "threads", 2),
		.fds = workload_number(arguments, "fds", 20),
		.areas = workload_number(arguments, "areas", 20),
		.connections = workload_number(arguments, "connections", 2),
	};

	workload_end(load_pid);
	load_pid = workload_start("load", many, &amounts);
	/* With background work the guest never comes to rest: rest=0 does not wait for it. */
	if (workload_number(arguments, "rest", 1))
		workload_wait_quiet();
	return load_pid < 0 ? "the load died" : NULL;
}

static void many_descriptors(void *argument)
{
	const struct amounts *amounts = argument;

	mkdir("/tmp/load", 0755);
	for (long i = 0; i < amounts->processes; i++) {
		if (i > 0 && workload_check(fork(), "fork") != 0)
			continue;
		for (long n = 0; n < amounts->fds; n++) {
			char path[64];

			snprintf(path, sizeof(path), "/tmp/load/many-%ld", n % 1000);
			int fd = n % 3 == 0 ? open(path, O_RDWR | O_CREAT, 0600) :
				 n % 3 == 1 ? eventfd(0, 0) :
					      open("/dev/null", O_RDONLY);
			if (workload_check(fd, "descriptor") < 0)
				break;
		}
		if (i > 0)
			workload_sleep();
	}
}

const char *fds(const char *arguments)
{
	struct amounts amounts = {
		.processes = workload_number(arguments, "process", 1),
		.fds = workload_number(arguments, "count", 20000),
	};

	workload_end(fds_pid);
	fds_pid = workload_start("fds", many_descriptors, &amounts);
	workload_wait_quiet();
	return fds_pid < 0 ? "the process died" : NULL;
}
