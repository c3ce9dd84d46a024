/* The zoo: memory areas of every kind, in one process. */
#include "workload.h"

#include <glob.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define HOUSE "/tmp/zoo/memory/"
/* 4 KiB, or 16 or 64 on some arm64 kernels. */
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define HUGE_PAGE (2UL << 20)

static char *map(size_t length, int protection, int flags, int fd, const char *what)
{
	char *area = mmap(NULL, length, protection, flags, fd, 0);

	if (area == MAP_FAILED) {
		workload_note("map %s: %s", what, strerror(errno));
		return NULL;
	}
	if (protection & PROT_WRITE)
		*area = 1;
	return area;
}

static int file_of(const char *path, size_t length)
{
	int fd = zoo_open(path, O_RDWR | O_CREAT);

	workload_check(ftruncate(fd, (off_t)length), path);
	return fd;
}

static void anonymous(void)
{
	int private = MAP_PRIVATE | MAP_ANONYMOUS;

	map(3 * PAGE, PROT_READ | PROT_WRITE, private, -1, "anonymous");
	map(PAGE, PROT_NONE, private, -1, "no access");
	map(2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, private, -1, "rwx");
	map(PAGE, PROT_READ | PROT_EXEC, private, -1, "r-x");
	map(PAGE, PROT_EXEC, private, -1, "--x");
	map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, "shared anonymous");
	map(4 * PAGE, PROT_READ | PROT_WRITE, private | MAP_GROWSDOWN, -1, "growing down");
	map(1UL << 40, PROT_NONE, private | MAP_NORESERVE, -1, "a terabyte");
	char *locked = map(PAGE, PROT_READ | PROT_WRITE, private | MAP_LOCKED, -1, "locked");
	if (locked)
		madvise(locked, PAGE, MADV_DONTDUMP);
	char *named = map(PAGE, PROT_READ | PROT_WRITE, private, -1, "to be named");
	if (named && syscall(SYS_prctl, 0x53564d41, 0, named, PAGE, "a name") != 0)
		workload_note("no names for anonymous memory: %s", strerror(errno));
	named = map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, "to be named");
	if (named && syscall(SYS_prctl, 0x53564d41, 0, named, PAGE, "a shared name") != 0)
		workload_note("no names for shared anonymous memory: %s", strerror(errno));
	/* Addresses above 47 bits exist only with 5-level page tables. */
	void *high = mmap((void *)(1UL << 52), PAGE, PROT_READ | PROT_WRITE, private, -1, 0);
	if (high == MAP_FAILED)
		workload_note("map high: %s", strerror(errno));
	void *low = mmap((void *)0x10000, PAGE, PROT_READ, private | MAP_FIXED_NOREPLACE, -1, 0);
	if (low == MAP_FAILED)
		workload_note("map low: %s", strerror(errno));
	char *split = map(64 * PAGE, PROT_READ | PROT_WRITE, private, -1, "to be split");
	for (size_t i = 0; split && i < 64; i += 3)
		workload_check(mprotect(split + i * PAGE, PAGE, PROT_READ), "mprotect");
	/* Areas to be unmapped in the middle: several levels of the tree, holes in its nodes. */
	for (size_t i = 0; i < 600; i++)
		map(PAGE, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE, private, -1, "a page");
	if (split)
		munmap(split + 20 * PAGE, 5 * PAGE);
	workload_check(brk(sbrk(0)) == 0 && sbrk(40 * PAGE) == (void *)-1 ? -1 : 0, "brk");
}

static void files(void)
{
	static const char *const odd[] = { "line\nbreak", "octal-\\012-text", "blank at end ",
					   "caf\xc3\xa9-\xff", "looks (deleted)x", "[heap]" };
	char path[256];
	int fd = file_of(HOUSE "file", 8 * PAGE);

	map(8 * PAGE, PROT_READ, MAP_SHARED, fd, "file, shared");
	map(8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, "file, shared, writable");
	map(8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, "file, private");
	map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, "file, executable");
	map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, "file, rwx");
	close(fd);
	fd = file_of(HOUSE "gone", PAGE);
	map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, "deleted file");
	unlink(HOUSE "gone");
	close(fd);
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		snprintf(path, sizeof(path), HOUSE "%s", odd[i]);
		fd = file_of(path, PAGE);
		map(PAGE, PROT_READ, MAP_PRIVATE, fd, path);
		close(fd);
	}
	fd = zoo_open("/bin/busybox", O_RDONLY);
	map(16 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, "another program");
	close(fd);
	fd = zoo_open("/proc/self/exe", O_RDONLY);
	map(PAGE, PROT_READ, MAP_PRIVATE, fd, "our own program");
	close(fd);
	fd = zoo_open("/dev/zero", O_RDWR);
	map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, "/dev/zero, private");
	map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, "/dev/zero, shared");
	close(fd);
}

static void shared(void)
{
	int fd = memfd_create("mapped", MFD_CLOEXEC);

	workload_check(ftruncate(fd, PAGE), "ftruncate");
	map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, "memfd");
	map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, "memfd, executable");
	int id = workload_check(shmget(0x5a4f4f, 2 * PAGE, IPC_CREAT | 0600), "shmget");
	if (id >= 0 && shmat(id, NULL, 0) == (void *)-1)
		workload_note("shmat: %s", strerror(errno));
	int private = workload_check(shmget(IPC_PRIVATE, PAGE, 0600), "shmget");
	if (private >= 0 && shmat(private, NULL, SHM_RDONLY) == (void *)-1)
		workload_note("shmat: %s", strerror(errno));
	if (private >= 0)
		shmctl(private, IPC_RMID, NULL);
	zoo_write("/proc/sys/vm/nr_hugepages", "2");
	map(HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1,
	    "huge pages");
	fd = memfd_create("huge, mapped", MFD_CLOEXEC | MFD_HUGETLB);
	map(HUGE_PAGE, PROT_READ, MAP_SHARED, fd, "huge memfd");
	close(fd);
	mkdir("/tmp/zoo/huge", 0755);
	if (mount("hugetlbfs", "/tmp/zoo/huge", "hugetlbfs", 0, NULL) != 0)
		workload_note("mount hugetlbfs: %s", strerror(errno));
	fd = zoo_open("/tmp/zoo/huge/file", O_RDWR | O_CREAT);
	map(HUGE_PAGE, PROT_READ, MAP_SHARED, fd, "file of huge pages");
	/* The registers of a device. */
	glob_t found = { 0 };
	if (glob("/sys/bus/pci/devices/*/resource0", 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			fd = open(found.gl_pathv[i], O_RDWR | O_CLOEXEC);
			if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED)
				break;
		}
	}
	globfree(&found);
}

/* Areas of descriptors that are no files. */
static void rings(void)
{
	aio_context_t asynchronous = 0;

	struct perf_event_attr clock = { .type = PERF_TYPE_SOFTWARE,
					 .size = sizeof(clock),
					 .config = PERF_COUNT_SW_CPU_CLOCK,
					 .disabled = 1 };
	struct io_uring_params ring = { 0 };
	struct tpacket_req packets = { PAGE, 2, 2048, 2 * PAGE / 2048 };
	int fd = (int)syscall(SYS_perf_event_open, &clock, 0, -1, -1, 0);

	if (workload_check(fd, "perf_event") >= 0)
		map(2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, "perf ring");
	fd = (int)syscall(SYS_io_uring_setup, 4, &ring);
	if (workload_check(fd, "io_uring") >= 0) {
		map(PAGE, PROT_READ, MAP_SHARED, fd, "io_uring");
		if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, IORING_OFF_SQES) == MAP_FAILED)
			workload_note("map io_uring entries: %s", strerror(errno));
	}
	workload_check((int)syscall(SYS_io_setup, 8, &asynchronous), "io_setup");
	union bpf_attr array = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8,
				 .max_entries = 1, .map_flags = BPF_F_MMAPABLE };
	fd = (int)syscall(SYS_bpf, BPF_MAP_CREATE, &array, sizeof(array));
	if (workload_check(fd, "BPF map") >= 0)
		map(PAGE, PROT_READ, MAP_SHARED, fd, "BPF map");
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (workload_check(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &packets, sizeof(packets)),
			   "packet ring") >= 0)
		map(2 * PAGE, PROT_READ, MAP_SHARED, fd, "packet ring");
}

void zoo_memory(void *unused)
{
	(void)unused;
	mkdir(HOUSE, 0755);
	anonymous();
	files();
	shared();
	rings();
}
