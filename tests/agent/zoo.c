/* The zoo: processes with objects of every kind. Its houses are in zoo_*.c. */
#include "workload.h"

#include <sys/stat.h>

static const struct {
	const char *name;
	workload *house;
} houses[] = {
	{ "files", zoo_files },		{ "kinds", zoo_kinds },
	{ "memory", zoo_memory },	{ "processes", zoo_processes },
	{ "sockets", zoo_sockets },	{ "phantoms", zoo_phantoms },
	{ "overlay", zoo_overlay },	{ "containers", zoo_containers },
};

static pid_t pids[sizeof(houses) / sizeof(*houses)];

void zoo_forget(void)
{
	memset(pids, 0, sizeof(pids));
}

/* Opens the named houses (all if none is named); open ones stay as they are. */
const char *zoo(const char *arguments)
{
	mkdir("/tmp/zoo", 0755);
	for (size_t i = 0; i < sizeof(houses) / sizeof(*houses); i++) {
		char name[32];

		if (*arguments && !strstr(arguments, houses[i].name))
			continue;
		snprintf(name, sizeof(name), "zoo-%s", houses[i].name);
		if (pids[i] <= 0)
			pids[i] = workload_start(name, houses[i].house, NULL);
		if (pids[i] < 0)
			return "a house of the zoo died; the notes name it";
	}
	workload_wait_quiet();
	return NULL;
}
