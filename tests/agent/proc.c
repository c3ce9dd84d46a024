/* Reading /proc: the list of tasks, whole files, links. */
#include "proc.h"

#include <ctype.h>
#include <dirent.h>

#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */
#define FILE_BYTES_MAX (256u << 20)

static char *content;
static size_t content_size;

ssize_t proc_read_at(int folder, const char *name, char **bytes)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	size_t used = 0;

	if (fd < 0)
		return -1;
	for (;;) {
		if (content_size - used < 4096) {
			size_t size = content_size ? content_size * 2 : 1 << 16;
			char *larger = size <= FILE_BYTES_MAX ? realloc(content, size) : NULL;

			if (!larger)
				break;
			content = larger;
			content_size = size;
		}
		ssize_t got = read(fd, content + used, content_size - 1 - used);
		if (got < 0) {
			close(fd);
			return -1;
		}
		if (got == 0)
			break;
		used += (size_t)got;
	}
	close(fd);
	content[used] = '\0';
	*bytes = content;
	return (ssize_t)used;
}

ssize_t proc_read(const char *path, char **bytes)
{
	return proc_read_at(AT_FDCWD, path, bytes);
}

ssize_t proc_link_at(int folder, const char *name, char **target)
{
	static char link[8192];
	ssize_t length = readlinkat(folder, name, link, sizeof(link) - 1);

	if (length < 0)
		return -1;
	link[length] = '\0';
	*target = link;
	return length;
}

ssize_t proc_link(const char *path, char **target)
{
	return proc_link_at(AT_FDCWD, path, target);
}

static int by_number(const void *left, const void *right)
{
	int l = *(const int *)left, r = *(const int *)right;

	return (l > r) - (l < r);
}

size_t proc_numbers(int folder, const char *name, int **numbers)
{
	int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	size_t count = 0, room = 0;
	struct dirent *entry;

	*numbers = NULL;
	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (count == room) {
			room = room ? room * 2 : 16;
			int *larger = realloc(*numbers, room * sizeof(int));

			if (!larger)
				break;
			*numbers = larger;
		}
		(*numbers)[count++] = atoi(entry->d_name);
	}
	closedir(dir);
	if (count)
		qsort(*numbers, count, sizeof(int), by_number);
	return count;
}

static bool is_kernel_thread(int pid)
{
	char path[64], *bytes;
	unsigned flags = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (proc_read(path, &bytes) < 0)
		return false;
	char *close = strrchr(bytes, ')');
	if (close)
		sscanf(close + 2, "%*c %*d %*d %*d %*d %*d %u", &flags);
	return flags & PF_KTHREAD;
}

const char *processes_read(struct processes *all)
{
	int *pids;
	size_t count = proc_numbers(AT_FDCWD, "/proc", &pids);

	all->count = 0;
	all->items = calloc(count + 1, sizeof(struct process));
	if (!all->items || count == 0) {
		free(pids);
		return "cannot list /proc";
	}
	for (size_t i = 0; i < count; i++) {
		struct process *process = &all->items[all->count];
		char path[64];

		if (pids[i] == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task", pids[i]);
		process->pid = pids[i];
		process->thread_count = proc_numbers(AT_FDCWD, path, &process->threads);
		process->kernel = is_kernel_thread(pids[i]);
		if (process->thread_count > 0)
			all->count++;
	}
	free(pids);
	return NULL;
}

void processes_free(struct processes *all)
{
	for (size_t i = 0; i < all->count; i++)
		free(all->items[i].threads);
	free(all->items);
	all->items = NULL;
	all->count = 0;
}
