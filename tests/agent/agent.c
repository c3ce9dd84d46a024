/*
 * The agent inside a test guest: pid 1, and a child that takes commands.
 *
 * It makes workloads and reports the truth about them: what a correct scan of this guest's memory
 * must print, read from the guest's own /proc. Between commands it sleeps in read().
 *
 *   hello              answers, once the guest is up
 *   truth [kinds]      JSON lines in the form of `panoptes scan` (truth.c)
 *   run COMMAND…       runs a shell command; its output, then its exit status
 *   load, fds          processes and their objects, by number (load.c)
 *   zoo [house…]       objects of every kind (zoo.c)
 *   lives              processes that live for a known time, and their ids (lives.c)
 *   storm, storm-status, churn, renames
 *                      changes that continue in the background (background.c)
 *   files …            files of all sizes, and which of their pages are in memory (files.c)
 *   shell LINE         types a line to an interactive bash; its terminal's output (shell.c)
 *   tour [ACT]         a timed sequence of acts for a live demonstration, or one act (tour.c)
 *   kill-all           ends all workloads
 *
 * Run by a workload, `/init memfd NAME PROGRAM ARGUMENTS…` runs a copy of a program without a file.
 */
#include "workload.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const char *run(const char *command)
{
	static char message[64];
	static char line[1 << 16]; /* Lines of JSON are long. */
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		return strerror(errno);
	pid_t child = fork();
	if (child < 0)
		return strerror(errno);
	if (child == 0) {
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	close(ends[1]);
	FILE *output = fdopen(ends[0], "r");
	while (output && fgets(line, sizeof(line), output)) {
		line[strcspn(line, "\n")] = '\0';
		out_raw("|", 1);
		out_raw(line, strlen(line));
		out_raw("\n", 1);
		out_flush(); /* The times of some lines matter. */
	}
	if (output)
		fclose(output);
	int status = 0;
	waitpid(child, &status, 0);
	if (status == 0)
		return NULL;
	snprintf(message, sizeof(message), "exit status %d",
		 WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return message;
}

static const char *obey(char *line)
{
	char *rest = strchr(line, ' ');

	if (rest)
		*rest++ = '\0';
	else
		rest = line + strlen(line);
	if (strcmp(line, "hello") == 0)
		return NULL;
	if (strcmp(line, "truth") == 0)
		return truth(rest);
	if (strcmp(line, "run") == 0)
		return run(rest);
	if (strcmp(line, "load") == 0)
		return load(rest);
	if (strcmp(line, "fds") == 0)
		return fds(rest);
	if (strcmp(line, "zoo") == 0)
		return zoo(rest);
	if (strcmp(line, "lives") == 0)
		return lives(rest);
	if (strcmp(line, "storm") == 0)
		return storm(rest);
	if (strcmp(line, "storm-status") == 0)
		return storm_status();
	if (strcmp(line, "churn") == 0)
		return churn(rest);
	if (strcmp(line, "renames") == 0)
		return renames();
	if (strcmp(line, "tour") == 0)
		return tour(rest);
	if (strcmp(line, "bpf") == 0)
		return bpf_command(rest);
	if (strcmp(line, "files") == 0)
		return files_command(rest);
	if (strcmp(line, "shell") == 0)
		return shell(rest);
	if (strcmp(line, "kill-all") == 0)
		return workload_kill_all();
	return "unknown command; known are: hello, truth, run, load, fds, zoo, lives, storm, "
	       "storm-status, churn, renames, tour, bpf, files, shell, kill-all";
}

/* Executes commands until the machine ends. */
static void serve(void)
{
	static char line[1 << 16];
	size_t used = 0;
	int port = boot_open_port();

	prctl(PR_SET_NAME, "agent");
	if (port < 0) {
		fprintf(stderr, "agent: no command channel: %m\n");
		return;
	}
	out_open(port);
	for (;;) {
		ssize_t got = read(port, line + used, sizeof(line) - 1 - used);
		char *end;

		if (got <= 0) {
			usleep(200000); /* The host is not connected. */
			continue;
		}
		used += (size_t)got;
		line[used] = '\0';
		while ((end = strchr(line, '\n'))) {
			*end = '\0';
			out_end(obey(line));
			used -= (size_t)(end + 1 - line);
			memmove(line, end + 1, used + 1);
		}
		if (used == sizeof(line) - 1)
			used = 0; /* No command is that long. */
	}
}

/* Becomes a copy of argv[3] that exists only in a memfd called argv[2]. */
static int become_memfd(char **argv)
{
	int from = open(argv[3], O_RDONLY | O_CLOEXEC);
	int copy = (int)syscall(SYS_memfd_create, argv[2], 1u /* MFD_CLOEXEC */);

	static char buffer[1 << 16];
	ssize_t got;
	while ((got = read(from, buffer, sizeof(buffer))) > 0 && write(copy, buffer, (size_t)got) == got)
		;
	/* Not every kernel executes a file that is open for writing. */
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", copy);
	int program = open(path, O_RDONLY | O_CLOEXEC);
	close(copy);
	fexecve(program, argv + 3, environ);
	fprintf(stderr, "agent: cannot run a copy of %s: %m\n", argv[3]);
	return 1;
}

int main(int argc, char **argv)
{
	if (getpid() != 1) {
		if (argc == 0 || !*argv[0])
			workload_sleep(); /* The zoo's process without arguments. */
		if (strcmp(argv[0], ZOO_RETITLE) == 0) {
			zoo_retitle();
			workload_sleep();
		}
		if (strncmp(argv[0], ZOO_EXECUTE, strlen(ZOO_EXECUTE)) == 0) {
			zoo_execute_again(argv[0] + strlen(ZOO_EXECUTE));
			workload_sleep();
		}
		if (argc > 3 && strcmp(argv[1], "memfd") == 0)
			return become_memfd(argv);
		fprintf(stderr, "agent: I am the init of a test guest, nothing else\n");
		return 1;
	}
	boot();
	for (;;) {
		pid_t server = fork();

		if (server == 0) {
			serve();
			_exit(1);
		}
		pid_t ended;
		do
			ended = wait(NULL);
		while (ended > 0 && ended != server);
		fprintf(stderr, "agent: the server ended; starting another\n");
		sleep(1);
	}
}
