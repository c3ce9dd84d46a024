/* Workloads that continue during scans: a storm of short processes, and small changes. */
#include "workload.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* The second one's name is too long for its dentry. */
#define RENAMED_LEFT "/tmp/renames/left/one"
#define RENAMED_RIGHT "/tmp/renames/right/two-with-a-name-that-does-not-fit-into-a-dentry"

struct storm {
	long rate, seconds, lifetime_ms_max;
	/* Shared with the agent. */
	volatile unsigned long *forked;
};

static volatile unsigned long *forked;
static pid_t storm_pid = -1, churn_pid = -1;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Forks children at a steady rate, each living from 2 ms up to its maximum. */
static void blow(void *argument)
{
	struct storm storm = *(struct storm *)argument;
	double start = now();
	unsigned seed = 1;

	signal(SIGCHLD, SIG_IGN);
	workload_settled();
	for (unsigned long number = 0; number < (unsigned long)(storm.rate * storm.seconds); number++) {
		double wait = start + (double)number / (double)storm.rate - now();

		if (wait > 0)
			usleep((useconds_t)(wait * 1e6));
		unsigned life_ms = 2 + (unsigned)rand_r(&seed) % (unsigned)storm.lifetime_ms_max;
		pid_t pid = fork();
		if (pid == 0) {
			prctl(PR_SET_NAME, "drop");
			usleep(life_ms * 1000);
			_exit(0);
		}
		if (pid > 0)
			*storm.forked = number + 1;
	}
}

const char *storm(const char *arguments)
{
	struct storm storm = {
		.rate = workload_number(arguments, "rate", 200),
		.seconds = workload_number(arguments, "seconds", 60),
		.lifetime_ms_max = workload_number(arguments, "lifetime_ms", 100),
	};

	if (storm.rate < 1 || storm.lifetime_ms_max < 1)
		return "rate and lifetime_ms must be at least 1";
	if (!forked)
		forked = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			      0);
	if (forked == MAP_FAILED) {
		forked = NULL;
		return strerror(errno);
	}
	workload_end(storm_pid);
	*forked = 0;
	storm.forked = forked;
	storm_pid = workload_start("storm", blow, &storm);
	return storm_pid < 0 ? "the storm died" : NULL;
}

const char *storm_status(void)
{
	out_say("%lu", forked ? *forked : 0);
	return NULL;
}

static void *short_thread(void *unused)
{
	prctl(PR_SET_NAME, "churn-thread");
	usleep(3000);
	return unused;
}

static void churn_once(unsigned long round)
{
	int client, server;
	char path[64];
	pthread_t thread;

	snprintf(path, sizeof(path), "/tmp/churn-%lu", round % 16);
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *file = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
	char *area = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	if (area != MAP_FAILED) {
		*area = 1;
		mprotect(area + page, page, PROT_READ | PROT_EXEC);
	}
	if (pthread_create(&thread, NULL, short_thread, NULL) == 0)
		pthread_detach(thread);
	bool connected = round % 4 == 0 &&
			 tcp_pair(round % 8 ? AF_INET : AF_INET6, &client, &server);
	usleep(2000);
	if (connected) {
		close(client);
		close(server);
	}
	if (area != MAP_FAILED)
		munmap(area, 8 * page);
	if (file != MAP_FAILED)
		munmap(file, page);
	close(fd);
	if (round % 3 == 0)
		unlink(path);
	if (round % 5 == 0 && fork() == 0) {
		usleep(5000);
		_exit(0);
	}
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void change(void *argument)
{
	double until = now() + (double)*(long *)argument;

	workload_settled();
	for (unsigned long round = 0; now() < until; round++)
		churn_once(round);
}

/* A file that stays open while its name and its folder change, both at once. */
static void rename_for_ever(void *unused)
{
	(void)unused;
	mkdir("/tmp/renames", 0755);
	mkdir("/tmp/renames/left", 0755);
	mkdir("/tmp/renames/right", 0755);
	open(RENAMED_LEFT, O_RDWR | O_CREAT, 0600);
	workload_settled();
	for (;;)
		if (rename(RENAMED_LEFT, RENAMED_RIGHT) != 0 ||
		    rename(RENAMED_RIGHT, RENAMED_LEFT) != 0)
			_exit(1);
}

const char *renames(void)
{
	return workload_start("renames", rename_for_ever, NULL) < 0 ? "the process died" : NULL;
}

const char *churn(const char *arguments)
{
	long seconds = workload_number(arguments, "seconds", 30);

	workload_end(churn_pid);
	churn_pid = workload_start("churn", change, &seconds);
	return churn_pid < 0 ? "the process died" : NULL;
}
