/* Reading /proc: the list of tasks, whole files, links. Shared by the parts of truth. */
#ifndef PROC_H
#define PROC_H

#include "agent.h"

/* A process at the time of the list. */
struct process {
	int pid;
	bool kernel; /* A kernel thread: no memory, no descriptors of its own. */
	int *threads; /* Ascending. */
	size_t thread_count;
};

/* Every process but the agent's own, by ascending pid. */
struct processes {
	struct process *items;
	size_t count;
};

const char *processes_read(struct processes *all);
void processes_free(struct processes *all);

/* A whole file, followed by a NUL that does not count; -1 if it cannot be read. The bytes are
 * valid until the next call. */
ssize_t proc_read(const char *path, char **bytes);
ssize_t proc_read_at(int folder, const char *name, char **bytes);

/* A link's target; -1 if there is none. The bytes are valid until the next call. */
ssize_t proc_link(const char *path, char **target);
ssize_t proc_link_at(int folder, const char *name, char **target);

/* The numbers that name a folder's entries, ascending; 0 if there is no such folder. */
size_t proc_numbers(int folder, const char *name, int **numbers);

#endif
