/* Starts, settles and ends the processes that tests scan. */
#include "workload.h"
#include "proc.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SETTLED "settled"
#define QUIET_CHECKS_MAX 600

/* Where a workload reports to its starter. */
static int report_fd = -1;

void workload_note(const char *format, ...)
{
	char line[512];
	va_list arguments;

	va_start(arguments, format);
	int length = vsnprintf(line, sizeof(line) - 1, format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	if (report_fd < 0) {
		out_say("note: %s", line);
		return;
	}
	length = (int)strlen(line);
	line[length] = '\n';
	if (write(report_fd, line, (size_t)length + 1) < 0)
		_exit(1);
}

int workload_check(int result, const char *what)
{
	if (result < 0)
		workload_note("%s: %s", what, strerror(errno));
	return result;
}

void workload_settled(void)
{
	if (report_fd < 0)
		return;
	workload_note(SETTLED);
	workload_leave_it_to_other();
}

void workload_leave_it_to_other(void)
{
	close(report_fd);
	report_fd = -1;
}

void workload_sleep(void)
{
	for (;;)
		pause();
}

static void become(const char *name, workload *run, void *argument, int report)
{
	prctl(PR_SET_NAME, name);
	/* The lowest descriptor, kept away from the workload's own. */
	if (report != 3) {
		dup3(report, 3, O_CLOEXEC);
		report = 3;
	}
	syscall(SYS_close_range, 4u, ~0u, 0u);
	report_fd = fcntl(report, F_DUPFD_CLOEXEC, 1000);
	close(report);
	run(argument);
	workload_settled();
	workload_sleep();
}

pid_t workload_start(const char *name, workload *run, void *argument)
{
	char line[600];
	int ends[2];
	bool settled = false;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[0]);
		/* The agent's children are groups of their own, so that they can be ended. */
		if (report_fd < 0)
			setpgid(0, 0);
		become(name, run, argument, ends[1]);
	}
	close(ends[1]);
	FILE *report = fdopen(ends[0], "r");
	while (pid > 0 && report && fgets(line, sizeof(line), report)) {
		line[strcspn(line, "\n")] = '\0';
		settled = strcmp(line, SETTLED) == 0;
		if (settled)
			break;
		workload_note("%s", line);
	}
	if (report)
		fclose(report);
	/* A workload that became another program closed its end without a report. */
	if (pid > 0 && !settled) {
		int status;

		usleep(20000);
		if (waitpid(pid, &status, WNOHANG) == pid) {
			workload_note("%s ended with status %d", name, status);
			pid = -1;
		}
	}
	return pid;
}

static bool is_running(int pid)
{
	char path[64], state = 'S', *bytes;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (proc_read(path, &bytes) < 0)
		return false;
	char *close = strrchr(bytes, ')');
	if (close)
		sscanf(close + 2, "%c", &state);
	return state == 'R';
}

void workload_wait_quiet(void)
{
	int quiet = 0;

	for (int check = 0; check < QUIET_CHECKS_MAX && quiet < 3; check++) {
		struct processes all;
		bool running = false;

		usleep(30000);
		if (processes_read(&all))
			return;
		for (size_t i = 0; i < all.count && !running; i++)
			running = !all.items[i].kernel && is_running(all.items[i].pid);
		processes_free(&all);
		quiet = running ? 0 : quiet + 1;
	}
}

void workload_end(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(-pid, SIGKILL);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

const char *workload_kill_all(void)
{
	for (int attempt = 0; attempt < 500; attempt++) {
		struct processes all;
		bool left = false;

		kill(-1, SIGKILL); /* Spares init and the caller. */
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (processes_read(&all))
			return "cannot list processes";
		for (size_t i = 0; i < all.count; i++)
			left = left || (!all.items[i].kernel && all.items[i].pid != 1);
		processes_free(&all);
		if (!left) {
			zoo_forget();
			shell_forget();
			return NULL;
		}
		usleep(20000);
	}
	return "some processes do not end";
}

long workload_number(const char *arguments, const char *key, long otherwise)
{
	size_t length = strlen(key);

	for (const char *at = arguments; (at = strstr(at, key)); at++)
		if ((at == arguments || at[-1] == ' ') && at[length] == '=')
			return strtol(at + length + 1, NULL, 10);
	return otherwise;
}

bool tcp_pair(int family, int *client, int *server)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	struct sockaddr_in in4 = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr *address = family == AF_INET ? (void *)&in4 : (void *)&in6;
	socklen_t size = family == AF_INET ? sizeof(in4) : sizeof(in6);
	int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char byte[64] = "hello";
	bool done = false;

	*client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*server = -1;
	if (listener >= 0 && *client >= 0 && bind(listener, address, size) == 0 &&
	    listen(listener, 8) == 0 && getsockname(listener, address, &size) == 0 &&
	    connect(*client, address, size) == 0) {
		*server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		done = *server >= 0 && write(*client, byte, 5) == 5 &&
		       read(*server, byte, sizeof(byte)) == 5 && write(*server, byte, 3) == 3 &&
		       read(*client, byte, sizeof(byte)) == 3;
	}
	if (listener >= 0)
		close(listener);
	return done;
}
