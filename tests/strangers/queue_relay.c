/* Connects to a port of this machine and passes bytes between the connection and a program. One
 * process has the connection, another one has the pipes of the program. They send each other
 * messages of System V: by two queues, or by one with two types (`ONE` as the third argument). */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>

#include "relay.h"

enum { BYTES = 2000, COMMAND = 1, ANSWER = 2 };

struct message {
	long type;
	char bytes[BYTES];
};

static int commands, answers;

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

/* Writes the next message of the queue. Returns 0 at the end. */
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
	int input, output;

	if (start(program, &input, &output) != 0)
		_exit(1);
	while (pass_back(commands, COMMAND, input) && pass_on(output, answers, ANSWER))
		nap();
	_exit(0);
}

int main(int argc, char **argv)
{
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
	int fd = connect_to(argv[1]);
	if (fd < 0)
		return 1;
	while (pass_on(fd, commands, COMMAND) && pass_back(answers, ANSWER, fd))
		nap();
	msgctl(commands, IPC_RMID, NULL);
	msgctl(answers, IPC_RMID, NULL);
	return 0;
}
