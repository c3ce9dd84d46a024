/* Connects to a port of this machine and passes bytes between the connection and a program, whose
 * input and output are pipes. The connection has no descriptor: an io_uring holds it as a
 * registered file. */
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "relay.h"

enum { ENTRIES = 8, BYTES = 4096 };
enum what { RECEIVED = 1, ANSWERED, SENT };

struct ring {
	int fd;
	unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static int ring_open(struct ring *ring)
{
	struct io_uring_params p;

	memset(&p, 0, sizeof(p));
	ring->fd = (int)syscall(__NR_io_uring_setup, ENTRIES, &p);
	if (ring->fd < 0)
		return -1;
	size_t sq_bytes = p.sq_off.array + p.sq_entries * sizeof(unsigned);
	size_t cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
	char *sq = mmap(NULL, sq_bytes, prot, flags, ring->fd, IORING_OFF_SQ_RING);
	char *cq = mmap(NULL, cq_bytes, prot, flags, ring->fd, IORING_OFF_CQ_RING);

	ring->sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), prot, flags, ring->fd,
			  IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || ring->sqes == MAP_FAILED)
		return -1;
	ring->sq_tail = (unsigned *)(sq + p.sq_off.tail);
	ring->sq_mask = (unsigned *)(sq + p.sq_off.ring_mask);
	ring->sq_array = (unsigned *)(sq + p.sq_off.array);
	ring->cq_head = (unsigned *)(cq + p.cq_off.head);
	ring->cq_tail = (unsigned *)(cq + p.cq_off.tail);
	ring->cq_mask = (unsigned *)(cq + p.cq_off.ring_mask);
	ring->cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	return 0;
}

/* Asks for a transfer; `fixed` means that `fd` is a slot of the ring. */
static void ask(struct ring *ring, enum what what, int op, int fd, int fixed, void *at,
		unsigned len)
{
	unsigned tail = *ring->sq_tail, place = tail & *ring->sq_mask;
	struct io_uring_sqe *sqe = &ring->sqes[place];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = (unsigned char)op;
	sqe->flags = fixed ? IOSQE_FIXED_FILE : 0;
	sqe->fd = fd;
	sqe->addr = (unsigned long)at;
	sqe->len = len;
	sqe->user_data = what;
	ring->sq_array[place] = place;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
	syscall(__NR_io_uring_enter, ring->fd, 1, 0, 0, NULL, 0);
}

/* Waits for a transfer; returns what ended, with its result. */
static enum what await(struct ring *ring, int *result)
{
	while (*ring->cq_head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
		syscall(__NR_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	struct io_uring_cqe *cqe = &ring->cqes[*ring->cq_head & *ring->cq_mask];
	enum what what = (enum what)cqe->user_data;

	*result = cqe->res;
	__atomic_store_n(ring->cq_head, *ring->cq_head + 1, __ATOMIC_RELEASE);
	return what;
}

int main(int argc, char **argv)
{
	static char commands[BYTES], answers[BYTES];
	struct ring ring;
	int input, output, result;

	if (argc < 3)
		return 2;
	int fd = connect_to(argv[1]);
	if (fd < 0 || ring_open(&ring) != 0)
		return 1;
	int files[4] = { -1, -1, fd, -1 };
	if (syscall(__NR_io_uring_register, ring.fd, IORING_REGISTER_FILES, files, 4) != 0)
		return 1;
	close(fd);
	if (start(argv[2], &input, &output) != 0)
		return 1;
	ask(&ring, RECEIVED, IORING_OP_RECV, 2, 1, commands, BYTES);
	ask(&ring, ANSWERED, IORING_OP_READ, output, 0, answers, BYTES);
	for (;;) {
		enum what what = await(&ring, &result);

		if (result <= 0)
			return 0;
		if (what == RECEIVED) {
			if (write(input, commands, (size_t)result) != result)
				return 1;
			ask(&ring, RECEIVED, IORING_OP_RECV, 2, 1, commands, BYTES);
		} else if (what == ANSWERED) {
			ask(&ring, SENT, IORING_OP_SEND, 2, 1, answers, (unsigned)result);
		} else {
			ask(&ring, ANSWERED, IORING_OP_READ, output, 0, answers, BYTES);
		}
	}
}
