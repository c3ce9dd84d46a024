/* Connects to a port of this machine and passes bytes between the connection and a program. One
 * process has the connection, another one has the pipes of the program. They send each other
 * messages of System V: by two queues, or by one with two types (`ONE` as the third argument). */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 2000, COMMAND = 1, ANSWER = 2 };

struct message {
	long type;
	char bytes[BYTES];
};

static int commands, answers;

static void nap(void)
{
	struct timespec time = { .tv_nsec = 5000000 };

	nanosleep(&time, NULL);
}

/* Sends what can be read as a message. Returns 0 at the end. */
static int pass_on(int fd, int queue, long type)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	struct message message = { .type = type };

	if (poll(&ready, 1, 0) != 1)
		return 1;
	ssize_t count = read(fd, message.bytes, BYTES);
	return count > 0 && msgsnd(queue, &message, (size_t)count, 0) == 0;
}

/* Writes the message that is there. Returns 0 at the end. */
static int pass_back(int queue, long type, int fd)
{
	struct message message;
	ssize_t count = msgrcv(queue, &message, BYTES, type, IPC_NOWAIT);

	if (count < 0)
		return errno == ENOMSG;
	return write(fd, message.bytes, (size_t)count) == count;
}

/* Runs the program, and passes its bytes to and from the queues. */
static void inner(const char *program)
{
	int to[2], from[2];

	if (pipe(to) != 0 || pipe(from) != 0)
		_exit(1);
	if (fork() == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		dup2(from[1], 2);
		close(to[0]), close(to[1]), close(from[0]), close(from[1]);
		execl(program, "sh", NULL);
		_exit(1);
	}
	close(to[0]), close(from[1]);
	while (pass_back(commands, COMMAND, to[1]) && pass_on(from[0], answers, ANSWER))
		nap();
	_exit(0);
}

int main(int argc, char **argv)
{
	struct sockaddr_in peer = { .sin_family = AF_INET };

	if (argc < 3)
		return 2;
	commands = answers = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
	if (argc < 4)
		answers = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
	if (commands < 0 || answers < 0)
		return 1;
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, 9);
		inner(argv[2]);
	}
	peer.sin_port = htons((unsigned short)atoi(argv[1]));
	peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&peer, sizeof(peer)) != 0)
		return 1;
	while (pass_on(fd, commands, COMMAND) && pass_back(answers, ANSWER, fd))
		nap();
	msgctl(commands, IPC_RMID, NULL);
	msgctl(answers, IPC_RMID, NULL);
	return 0;
}
