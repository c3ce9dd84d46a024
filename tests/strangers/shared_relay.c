/* Connects to a port of this machine and passes bytes between the connection and a program. One
 * process has the connection, another one has the pipes of the program. They share nothing but
 * memory: without a file, of System V (`SYSV` as the third argument), or of the file that is the
 * third argument. */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>

#include "relay.h"

enum { BYTES = 2000 };

/* Bytes for one direction; `used` is their number, 0 once they were read. */
struct box {
	int used;
	char bytes[BYTES];
};

struct boxes {
	struct box commands, answers;
};

/* Moves what can be read into a box that is empty. Returns 0 at the end. */
static int fill(struct box *box, int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	if (__atomic_load_n(&box->used, __ATOMIC_ACQUIRE) != 0 || poll(&ready, 1, 0) != 1)
		return 1;
	int count = (int)read(fd, box->bytes, BYTES);
	if (count <= 0)
		return 0;
	__atomic_store_n(&box->used, count, __ATOMIC_RELEASE);
	return 1;
}

static int empty(struct box *box, int fd)
{
	int count = __atomic_load_n(&box->used, __ATOMIC_ACQUIRE);

	if (count != 0 && write(fd, box->bytes, (size_t)count) != count)
		return 0;
	if (count != 0)
		__atomic_store_n(&box->used, 0, __ATOMIC_RELEASE);
	return 1;
}

static struct boxes *map(const char *path)
{
	int fd = -1, flags = MAP_SHARED | MAP_ANONYMOUS;

	if (path != NULL) {
		fd = open(path, O_RDWR | O_CREAT, 0600);
		flags = MAP_SHARED;
		if (fd < 0 || ftruncate(fd, sizeof(struct boxes)) != 0)
			_exit(1);
	}
	struct boxes *boxes = mmap(NULL, sizeof(*boxes), PROT_READ | PROT_WRITE, flags, fd, 0);
	if (fd >= 0)
		close(fd);
	if (boxes == MAP_FAILED)
		_exit(1);
	return boxes;
}

/* Memory that is gone when the last process is. */
static struct boxes *attach(void)
{
	int id = shmget(IPC_PRIVATE, sizeof(struct boxes), IPC_CREAT | 0600);
	struct boxes *boxes = shmat(id, NULL, 0);

	if (id < 0 || boxes == (void *)-1 || shmctl(id, IPC_RMID, NULL) != 0)
		_exit(1);
	return boxes;
}

/* Runs the program, and passes its bytes to and from the memory. */
static void inner(struct boxes *boxes, const char *program)
{
	int input, output;

	if (start(program, &input, &output) != 0)
		_exit(1);
	while (empty(&boxes->commands, input) && fill(&boxes->answers, output))
		nap();
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *path = argc > 3 ? argv[3] : NULL;
	struct boxes *boxes = NULL;

	if (argc < 3)
		return 2;
	if (path == NULL)
		boxes = map(NULL);
	else if (strcmp(path, "SYSV") == 0)
		boxes = attach();
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, 9);
		/* Each process opens a file itself. */
		inner(boxes ? boxes : map(path), argv[2]);
	}
	if (boxes == NULL)
		boxes = map(path);
	int fd = connect_to(argv[1]);
	if (fd < 0)
		return 1;
	while (fill(&boxes->commands, fd) && empty(&boxes->answers, fd))
		nap();
	return 0;
}
