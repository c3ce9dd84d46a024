/* Processes that live for a known time, one after another, and their ids. */
#include "workload.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

/* A line with "pid nanoseconds" for each: the time from before its fork until after its end. */
const char *lives(const char *arguments)
{
	long count = workload_number(arguments, "count", 1000);
	long life_us = workload_number(arguments, "us", 2000);
	long pause_us = workload_number(arguments, "pause", 1000);

	if (count < 1 || count > 100000 || life_us < 0 || pause_us < 0)
		return "count, us and pause are numbers of processes and microseconds";
	struct life {
		pid_t pid;
		long ns;
	} *all = calloc((size_t)count, sizeof(*all));
	if (!all)
		return strerror(errno);
	for (long number = 0; number < count; number++) {
		struct timespec begin, end;

		clock_gettime(CLOCK_MONOTONIC, &begin);
		pid_t pid = fork();
		if (pid == 0) {
			prctl(PR_SET_NAME, "short-life");
			usleep((useconds_t)life_us);
			_exit(0);
		}
		if (pid > 0)
			waitpid(pid, NULL, 0);
		clock_gettime(CLOCK_MONOTONIC, &end);
		all[number].pid = pid;
		all[number].ns =
			(end.tv_sec - begin.tv_sec) * 1000000000L + end.tv_nsec - begin.tv_nsec;
		usleep((useconds_t)pause_us);
	}
	for (long number = 0; number < count; number++)
		out_say("%d %ld", all[number].pid, all[number].ns);
	free(all);
	return NULL;
}
