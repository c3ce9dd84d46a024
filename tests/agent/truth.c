/*
 * What a correct scan of this guest must print, from the guest's own /proc.
 *
 * Lines have the form and the key names of `panoptes scan`. Attributes that /proc lacks are left
 * out. Keys that begin with '_' are only for the comparison. The agent's own process is left out.
 */
#include "truth.h"

#include <limits.h>
#include <time.h>

#define NS_PER_SECOND 1000000000LL

static long long now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

/*
 * The difference between real time and the clock that started at boot. The two are read one after
 * the other, and an emulated processor may stall for milliseconds in between: of many readings, the
 * fastest is right.
 */
static long long boot_to_real_ns(void)
{
	long long shortest = LLONG_MAX;
	long long difference = 0;

	for (int reading = 0; reading < 200; reading++) {
		long long before = now_ns(CLOCK_BOOTTIME);
		long long real = now_ns(CLOCK_REALTIME);
		long long after = now_ns(CLOCK_BOOTTIME);

		if (after - before < shortest) {
			shortest = after - before;
			difference = real - (before + after) / 2;
		}
	}
	return difference;
}

/* Facts about the guest as a whole, for the comparison. */
static void guest_line(void)
{
	json_begin("_guest");
	json_integer("_boot_to_real_ns", boot_to_real_ns());
	json_integer("_ticks_per_second", sysconf(_SC_CLK_TCK));
	json_list("_agent_process_ids");
	json_list_integer(getpid());
	json_list_end();
	json_end();
}

/* Whether a comma-separated list (empty: everything) names this kind. */
static bool wanted(const char *kinds, const char *kind)
{
	size_t length = strlen(kind);

	if (*kinds == '\0')
		return true;
	for (const char *at = kinds; (at = strstr(at, kind)); at++)
		if ((at == kinds || at[-1] == ',') && (at[length] == ',' || at[length] == '\0'))
			return true;
	return false;
}

const char *truth(const char *kinds)
{
	bool files = wanted(kinds, "files");
	bool connections = wanted(kinds, "connections");
	bool interfaces = wanted(kinds, "interfaces");
	struct processes all;
	const char *error = processes_read(&all);

	if (error)
		return error;
	guest_line();
	if (wanted(kinds, "processes"))
		truth_processes(&all);
	if (wanted(kinds, "threads"))
		truth_threads(&all);
	if (files || connections || interfaces)
		error = truth_files(&all, files);
	if (wanted(kinds, "memory"))
		truth_memory(&all);
	if (!error && (connections || interfaces))
		error = truth_network(&all, connections, interfaces);
	if (!error && wanted(kinds, "containers"))
		truth_containers(&all);
	if (!error && wanted(kinds, "modules"))
		truth_modules();
	if (!error && wanted(kinds, "bpf"))
		truth_bpf();
	network_forget();
	processes_free(&all);
	return error;
}
