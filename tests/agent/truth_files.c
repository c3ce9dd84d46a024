/* Truth about file descriptors: /proc/PID/task/TID/{fd,fdinfo} and fstat. */
#include "truth.h"

#include <linux/kcmp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

/* A descriptor table, through one thread that uses it. */
struct table {
	int pid;
	int tid;
	int *threads; /* All that use it, also of other processes; ascending. */
	size_t thread_count;
};

struct terminal_range {
	unsigned major, first, last;
};

static struct terminal_range terminals[64];
static size_t terminal_count;
static dev_t memfd_devices[2]; /* Ordinary ones, and those of huge pages. */
static struct table *tables;
static size_t table_count, table_room;

/* The device numbers of terminals: "driver /dev/name major first[-last] type". */
static void read_terminals(void)
{
	char *bytes;

	terminal_count = 0;
	if (proc_read("/proc/tty/drivers", &bytes) < 0)
		return;
	for (char *line = strtok(bytes, "\n"); line; line = strtok(NULL, "\n")) {
		struct terminal_range *range = &terminals[terminal_count];
		int got = sscanf(line, "%*s %*s %u %u-%u", &range->major, &range->first,
				 &range->last);

		if (got == 2)
			range->last = range->first;
		if (got >= 2 && terminal_count + 1 < sizeof(terminals) / sizeof(*terminals))
			terminal_count++;
	}
}

static bool is_terminal(dev_t device)
{
	for (size_t i = 0; i < terminal_count; i++)
		if (major(device) == terminals[i].major && minor(device) >= terminals[i].first &&
		    minor(device) <= terminals[i].last)
			return true;
	return false;
}

static bool starts(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static const char *anonymous_type(const char *name)
{
	static const char *const known[][2] = {
		{ "[eventfd]", "EVENTFD" },	{ "[eventpoll]", "EPOLL" },
		{ "[timerfd]", "TIMERFD" },	{ "[signalfd]", "SIGNALFD" },
		{ "inotify", "INOTIFY" },	{ "[fanotify]", "FANOTIFY" },
		{ "[io_uring]", "IO_URING" },	{ "[pidfd]", "PIDFD" },
		{ "bpf-map", "BPF" },		{ "bpf-prog", "BPF" },
		{ "bpf_link", "BPF" },		{ "bpf-link", "BPF" },
		{ "bpf_iter", "BPF" },		{ "btf", "BPF" },
		{ "bpf-token", "BPF" },		{ "[perf_event]", "PERF_EVENT" },
		{ "[userfaultfd]", "USERFAULTFD" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(name, known[i][0]) == 0)
			return known[i][1];
	return "ANON_INODE";
}

static const char *file_type(const char *link, const struct stat *inode)
{
	if (starts(link, "anon_inode:"))
		return anonymous_type(link + strlen("anon_inode:"));
	if (starts(link, "pidfd:["))
		return "PIDFD";
	if (link[0] != '/' && !starts(link, "pipe:[") && !starts(link, "socket:[") &&
	    strstr(link, ":["))
		return "NAMESPACE";
	switch (inode->st_mode & S_IFMT) {
	case S_IFREG:
		if (starts(link, "/memfd:") && inode->st_nlink == 0 &&
		    (inode->st_dev == memfd_devices[0] || inode->st_dev == memfd_devices[1]))
			return "MEMFD";
		return "REGULAR";
	case S_IFDIR:
		return "DIRECTORY";
	case S_IFLNK:
		return "SYMLINK";
	case S_IFCHR:
		return is_terminal(inode->st_rdev) ? "TTY" : "CHARACTER_DEVICE";
	case S_IFBLK:
		return "BLOCK_DEVICE";
	case S_IFIFO:
		return starts(link, "pipe:[") ? "PIPE" : "FIFO";
	case S_IFSOCK:
		return "SOCKET";
	default:
		return starts(link, "/dmabuf:") ? "DMA_BUF" : "UNKNOWN";
	}
}

/* The flags by name, in the order of the records. */
static void file_mode(unsigned long flags)
{
#ifdef __aarch64__
	enum { DIRECTORY = 040000, NOFOLLOW = 0100000, DIRECT = 0200000, LARGEFILE = 0400000 };
#else
	enum { DIRECT = 040000, LARGEFILE = 0100000, DIRECTORY = 0200000, NOFOLLOW = 0400000 };
#endif
	static const struct {
		unsigned long mask, value;
		const char *name;
	} names[] = {
		{ 02000, 02000, "APPEND" },	  { 04000, 04000, "NONBLOCK" },
		{ 020000, 020000, "ASYNC" },	  { DIRECT, DIRECT, "DIRECT" },
		{ 04000000, 04000000, "SYNC" },	  { 04010000, 010000, "DSYNC" },
		{ 01000000, 01000000, "NOATIME" }, { DIRECTORY, DIRECTORY, "DIRECTORY" },
		{ NOFOLLOW, NOFOLLOW, "NOFOLLOW" }, { 020000000, 020000000, "TMPFILE" },
		{ LARGEFILE, LARGEFILE, "LARGE_FILE" }, { 02000000, 02000000, "CLOSE_ON_EXEC" },
	};
	static const char *const access[] = { "READ_ONLY", "WRITE_ONLY", "READ_WRITE",
					      "READ_WRITE" };
	char text[256];

	strcpy(text, flags & 010000000 ? "PATH" : access[flags & 3]);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if ((flags & names[i].mask) == names[i].value) {
			strcat(text, "|");
			strcat(text, names[i].name);
		}
	}
	json_string("file_descriptor_file_mode", text);
}

static void print_threads(const struct table *table)
{
	json_list("file_descriptor_thread_id_array");
	for (size_t i = 0; i < table->thread_count; i++)
		json_list_integer(table->threads[i]);
	json_list_end();
}

static void one_descriptor(const struct table *table, int folder, int info, int index, bool print)
{
	static char link[8192];
	char name[16], device[32], permissions[16], *bytes;
	struct stat inode;
	unsigned long number;

	snprintf(name, sizeof(name), "%d", index);
	ssize_t length = readlinkat(folder, name, link, sizeof(link) - 1);
	bool too_long = length < 0 && errno == ENAMETOOLONG;
	if (length < 0 && !too_long)
		return;
	link[too_long ? 0 : length] = '\0';
	if (sscanf(link, "socket:[%lu]", &number) == 1)
		network_note_holder(number, table->pid, index);
	if (sscanf(link, "net:[%lu]", &number) == 1) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/task/%d/fd/%d", table->pid, table->tid,
			 index);
		network_note_namespace(number, path);
	}
	if (!print || fstatat(folder, name, &inode, 0) != 0)
		return;
	json_begin("file_descriptor");
	json_integer("process_id", table->pid);
	json_integer("file_descriptor_index", index);
	if (!too_long)
		json_text("file_descriptor_name", link, (size_t)length);
	json_string("file_descriptor_file_type", file_type(link, &inode));
	if (proc_read_at(info, name, &bytes) > 0) {
		char *flags = strstr(bytes, "flags:");

		if (flags)
			file_mode(strtoul(flags + 6, NULL, 8));
	}
	json_unsigned("file_descriptor_inode_number", inode.st_ino);
	snprintf(device, sizeof(device), "%u:%u", major(inode.st_dev), minor(inode.st_dev));
	json_string("file_descriptor_inode_device_identifier", device);
	snprintf(permissions, sizeof(permissions), "%04o", inode.st_mode & 07777);
	json_string("file_descriptor_inode_permissions", permissions);
	json_unsigned("file_descriptor_inode_uid", inode.st_uid);
	json_unsigned("file_descriptor_inode_gid", inode.st_gid);
	json_integer("file_descriptor_inode_size_bytes", inode.st_size);
	if (!too_long)
		json_boolean("file_descriptor_inode_deleted",
			     length > 10 && strcmp(link + length - 10, " (deleted)") == 0);
	print_threads(table);
	json_time("file_descriptor_inode_change_time_iso_8601_ns", inode.st_ctim.tv_sec,
		  inode.st_ctim.tv_nsec);
	json_time("file_descriptor_inode_modify_time_iso_8601_ns", inode.st_mtim.tv_sec,
		  inode.st_mtim.tv_nsec);
	json_time("file_descriptor_inode_access_time_iso_8601_ns", inode.st_atim.tv_sec,
		  inode.st_atim.tv_nsec);
	json_end();
}

static void one_table(const struct table *table, bool print)
{
	char path[64];
	int *indexes;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/fd", table->pid, table->tid);
	int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/fdinfo", table->pid, table->tid);
	int info = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t count = proc_numbers(folder, ".", &indexes);

	for (size_t i = 0; i < count; i++)
		one_descriptor(table, folder, info, indexes[i], print);
	free(indexes);
	if (folder >= 0)
		close(folder);
	if (info >= 0)
		close(info);
}

/* An order of descriptor tables: by the kernel's (scrambled) addresses. */
static int compare_tables(int left, int right)
{
	long order = syscall(SYS_kcmp, left, right, KCMP_FILES, 0, 0);

	return order == 1 ? -1 : order == 2 ? 1 : 0;
}

static int by_address(const void *left, const void *right)
{
	return compare_tables((*(struct table *const *)left)->tid,
			      (*(struct table *const *)right)->tid);
}

static struct table *add_table(int pid, int tid, size_t threads_max)
{
	if (table_count == table_room) {
		size_t room = table_room ? table_room * 2 : 256;
		struct table *larger = realloc(tables, room * sizeof(*tables));

		if (!larger)
			return NULL;
		tables = larger;
		table_room = room;
	}
	struct table *table = &tables[table_count];
	*table = (struct table){ .pid = pid, .tid = tid };
	table->threads = calloc(threads_max, sizeof(int));
	if (!table->threads)
		return NULL;
	table_count++;
	return table;
}

/* Sorts the threads of a process by the table they use; most use the first one's. */
static bool find_tables(const struct process *process)
{
	size_t first = table_count;

	for (size_t i = 0; i < process->thread_count; i++) {
		int tid = process->threads[i];
		struct table *found = NULL;

		for (size_t t = first; t < table_count && !found; t++)
			if (compare_tables(tables[t].tid, tid) == 0)
				found = &tables[t];
		if (!found)
			found = add_table(process->pid, tid, process->thread_count);
		if (!found)
			return false;
		found->threads[found->thread_count++] = tid;
	}
	return true;
}

static int by_number(const void *left, const void *right)
{
	return *(const int *)left - *(const int *)right;
}

/* Merges tables shared between processes: each gets the threads of all. */
static bool join(struct table **same, size_t count)
{
	size_t total = 0, used = 0;

	for (size_t i = 0; i < count; i++)
		total += same[i]->thread_count;
	int *threads = calloc(total * count, sizeof(int));
	if (!threads)
		return false;
	for (size_t i = 0; i < count; i++) {
		memcpy(threads + used, same[i]->threads, same[i]->thread_count * sizeof(int));
		used += same[i]->thread_count;
	}
	qsort(threads, total, sizeof(int), by_number);
	for (size_t i = 0; i < count; i++) {
		int *copy = calloc(total, sizeof(int));

		if (!copy)
			return false;
		memcpy(copy, threads, total * sizeof(int));
		free(same[i]->threads);
		same[i]->threads = copy;
		same[i]->thread_count = total;
	}
	free(threads);
	return true;
}

static bool find_shared(void)
{
	struct table **sorted = calloc(table_count + 1, sizeof(*sorted));
	bool enough = sorted != NULL;
	size_t first = 0;

	for (size_t i = 0; i < table_count && enough; i++)
		sorted[i] = &tables[i];
	if (enough)
		qsort(sorted, table_count, sizeof(*sorted), by_address);
	for (size_t i = 1; i <= table_count && enough; i++) {
		if (i < table_count && compare_tables(sorted[first]->tid, sorted[i]->tid) == 0)
			continue;
		if (i - first > 1)
			enough = join(sorted + first, i - first);
		first = i;
	}
	free(sorted);
	return enough;
}

/* The device number that files of memfd_create() have. */
static dev_t memfd_device(unsigned flags)
{
	struct stat inode = { 0 };
	int fd = (int)syscall(SYS_memfd_create, "probe", MFD_CLOEXEC | flags);

	if (fd >= 0) {
		if (fstat(fd, &inode) != 0)
			inode.st_dev = 0;
		close(fd);
	}
	return inode.st_dev;
}

const char *truth_files(const struct processes *all, bool print)
{
	bool enough = true;

	memfd_devices[0] = memfd_device(0);
	memfd_devices[1] = memfd_device(MFD_HUGETLB);
	read_terminals();
	table_count = 0;
	for (size_t i = 0; i < all->count && enough; i++)
		if (!all->items[i].kernel)
			enough = find_tables(&all->items[i]);
	enough = enough && find_shared();
	for (size_t i = 0; i < table_count && enough; i++)
		one_table(&tables[i], print);
	for (size_t i = 0; i < table_count; i++)
		free(tables[i].threads);
	return enough ? NULL : "out of memory";
}
