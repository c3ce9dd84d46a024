/* Processes that the agent starts for tests to scan. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include "agent.h"

typedef void workload(void *argument);

/*
 * Starts a process that runs `run` and then sleeps; returns its pid after it has settled, or -1 if
 * it died before. It begins with descriptors 0 to 2 only. May be used inside a workload.
 */
pid_t workload_start(const char *name, workload *run, void *argument);
/* For a workload: notes a feature that this kernel refuses; the command's answer has the note. */
void workload_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For a workload: it is ready (implied when `run` returns, or executes a program). */
void workload_settled(void);
/* For a workload of two processes: the other one reports that it is ready. */
void workload_leave_it_to_other(void);
/* Notes `what` with errno if a call failed; returns the call's result. */
int workload_check(int result, const char *what);
/* Sleeps without end. */
void workload_sleep(void) __attribute__((noreturn));

/* Waits until no process but the agent runs. */
void workload_wait_quiet(void);
/* Ends every process but init and the agent. */
const char *workload_kill_all(void);
/* Ends one workload and its descendants that stayed in its process group. */
void workload_end(pid_t pid);

/* "key=value" among the words of a command; a default if it is missing. */
long workload_number(const char *arguments, const char *key, long otherwise);

/* A TCP connection with both ends in this process, some data exchanged. */
bool tcp_pair(int family, int *client, int *server);

/* The commands. */
const char *load(const char *arguments);
const char *fds(const char *arguments);
const char *zoo(const char *arguments);
const char *lives(const char *arguments);
const char *storm(const char *arguments);
const char *storm_status(void);
const char *churn(const char *arguments);
const char *renames(void);
const char *tour(const char *arguments);
const char *bpf_command(const char *arguments);
const char *files_command(char *arguments);

const char *shell(const char *line);
/* Called after everything was ended: the zoo is closed. */
void zoo_forget(void);
void shell_forget(void);

/* The zoo's houses. */
void zoo_files(void *unused);
void zoo_kinds(void *unused);
void zoo_memory(void *unused);
void zoo_processes(void *unused);
void zoo_sockets(void *unused);
void zoo_phantoms(void *unused);
void zoo_overlay(void *unused);
void zoo_containers(void *unused);

/* An agent called by this name overwrites its arguments. */
#define ZOO_RETITLE "retitle"
void zoo_retitle(void);
/* An agent called "execute-N" calls exec N times in all, and is then called by the second name. */
#define ZOO_EXECUTE "execute-"
#define ZOO_EXECUTED "executed-"
void zoo_execute_again(const char *left);

/* Opens a file, writes a few bytes if it creates it, and notes a failure. */
int zoo_open(const char *path, int flags);
void zoo_write(const char *path, const char *content);

#endif
