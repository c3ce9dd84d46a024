/* An interactive bash on a terminal of its own, to which tests type. */
#include "workload.h"

#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int terminal = -1;
static pid_t shell_pid = -1;

static bool start(void)
{
	char path[64];

	terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0 ||
	    ptsname_r(terminal, path, sizeof(path)) != 0)
		return false;
	shell_pid = fork();
	if (shell_pid == 0) {
		setsid();
		int end = open(path, O_RDWR);

		for (int fd = 0; fd < 3; fd++)
			dup2(end, fd);
		if (end > 2)
			close(end);
		setenv("TERM", "dumb", 1);
		setenv("PS1", "$ ", 1);
		execl("/bin/bash", "bash", "--norc", "-i", NULL);
		_exit(127);
	}
	return shell_pid > 0;
}

/* What the terminal shows until it has been still for a while. */
static void show(void)
{
	static char seen[1 << 16];
	size_t used = 0;
	int waiting;

	for (int still = 0; still < 15 && used < sizeof(seen) - 1; still++) {
		usleep(20000);
		if (ioctl(terminal, FIONREAD, &waiting) != 0 || waiting == 0)
			continue;
		ssize_t got = read(terminal, seen + used, sizeof(seen) - 1 - used);
		if (got > 0)
			used += (size_t)got;
		still = 0;
	}
	seen[used] = '\0';
	for (char *line = strtok(seen, "\r\n"); line; line = strtok(NULL, "\r\n"))
		out_say("%s", line);
}

void shell_forget(void)
{
	if (terminal >= 0)
		close(terminal);
	terminal = -1;
	shell_pid = -1;
}

const char *shell(const char *line)
{
	int status;

	if (shell_pid > 0 && waitpid(shell_pid, &status, WNOHANG) == shell_pid)
		shell_forget();
	if (shell_pid <= 0 && !start())
		return "no shell could be started";
	if (write(terminal, line, strlen(line)) < 0 || write(terminal, "\n", 1) < 0)
		return strerror(errno);
	show();
	return NULL;
}
