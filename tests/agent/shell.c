/* An interactive bash on a terminal of its own, to which tests type. */
#include "workload.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CHECK_MICROSECONDS 20000
/* A minute: a typed command need not end. */
#define CHECKS_MAX 3000

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

/* Whether the last line is a prompt: PS1, or PS2 if a command needs more lines. */
static bool ends_with_prompt(const char *seen, size_t used)
{
	if (used < 2 || seen[used - 1] != ' ' || (seen[used - 2] != '$' && seen[used - 2] != '>'))
		return false;
	return used == 2 || seen[used - 3] == '\n';
}

static bool has_ended(void)
{
	siginfo_t info = { 0 };

	/* WNOWAIT keeps the status for the next call. */
	return waitid(P_PID, (id_t)shell_pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
	       info.si_pid == shell_pid;
}

/* Collects the terminal's output until the next prompt, or the shell's end. */
static char *read_to_prompt(void)
{
	static char seen[1 << 16];
	size_t used = 0;
	int waiting;

	for (int check = 0; check < CHECKS_MAX && used < sizeof(seen) - 1; check++) {
		if (ioctl(terminal, FIONREAD, &waiting) == 0 && waiting > 0) {
			ssize_t got = read(terminal, seen + used, sizeof(seen) - 1 - used);

			used += got > 0 ? (size_t)got : 0;
			continue;
		}
		if (ends_with_prompt(seen, used) || has_ended())
			break;
		usleep(CHECK_MICROSECONDS);
	}
	seen[used] = '\0';
	return seen;
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
	if (shell_pid > 0 && has_ended()) {
		waitpid(shell_pid, NULL, 0);
		shell_forget();
	}
	if (shell_pid <= 0) {
		if (!start())
			return "no shell could be started";
		read_to_prompt();
	}
	if (write(terminal, line, strlen(line)) < 0 || write(terminal, "\n", 1) < 0)
		return strerror(errno);
	char *seen = read_to_prompt();
	for (char *shown = strtok(seen, "\r\n"); shown; shown = strtok(NULL, "\r\n"))
		out_say("%s", shown);
	return NULL;
}
