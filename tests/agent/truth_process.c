/* Truth about processes and threads. */
#include "truth.h"
#include "workload.h"

#include <limits.h>
#include <sys/stat.h>
#include <time.h>

#define COMM_LENGTH_MAX 15 /* TASK_COMM_LEN less its NUL */
#define EXIT_DEAD 16 /* include/linux/sched.h */
#define EXIT_ZOMBIE 32

static void process_link(const char *key, int folder, const char *name)
{
	char *target;
	ssize_t length = proc_link_at(folder, name, &target);

	if (length >= 0)
		json_text(key, target, (size_t)length);
}

/* The arguments as one string, and as the exact list. */
static void command_line(char *bytes, size_t length)
{
	if (length == 0)
		return;
	if (bytes[length - 1] == '\0')
		length--;
	json_list("process_command_line_argument_list");
	for (size_t start = 0; start <= length;) {
		size_t end = start;

		while (end < length && bytes[end])
			end++;
		json_list_text(bytes + start, end - start);
		start = end + 1;
	}
	json_list_end();
	for (size_t i = 0; i < length; i++)
		if (!bytes[i])
			bytes[i] = ' ';
	json_text("process_command_line_arguments", bytes, length);
}

static void pair(char *status, const char *label, const char *real_key, const char *effective_key)
{
	unsigned real, effective;
	char *line = strstr(status, label);

	if (line && sscanf(line + strlen(label), "%u %u", &real, &effective) == 2) {
		json_unsigned(real_key, real);
		json_unsigned(effective_key, effective);
	}
}

/* A number of the login. Without one, it is the highest; without CONFIG_AUDIT, there is no file. */
static void login(const char *key, int folder, const char *name)
{
	char *bytes;
	unsigned id;

	if (proc_read_at(folder, name, &bytes) > 0 && sscanf(bytes, "%u", &id) == 1 && id != UINT_MAX)
		json_unsigned(key, id);
	else
		json_null(key);
}

/* Run time of all threads, the ended ones included: the process's own CPU clock. */
static void cpu_time(int pid)
{
	clockid_t clock = (clockid_t)((~(unsigned)pid << 3) | 2); /* CPUCLOCK_SCHED */
	struct timespec used;

	if (clock_gettime(clock, &used) == 0)
		json_integer("process_cpu_time_ns", used.tv_sec * 1000000000LL + used.tv_nsec);
}

/* /proc does not show how often a process called exec. The agent knows it for a few, by the name
 * that they took. The kernel's first thread executed the agent, so its children begin at one. */
static void exec_id(const char *key, const char *name)
{
	if (strncmp(name, ZOO_EXECUTED, strlen(ZOO_EXECUTED)) == 0)
		json_integer(key, 1 + atoi(name + strlen(ZOO_EXECUTED)));
}

static void one_process(const struct process *process)
{
	char path[64], state, *bytes;
	long long parent, start_ticks;
	struct stat executable;

	snprintf(path, sizeof(path), "/proc/%d", process->pid);
	int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0 || proc_read_at(folder, "stat", &bytes) < 0)
		goto gone;
	/* A name may contain any byte, brackets too: it ends at the last one. */
	char *open = strchr(bytes, '('), *close_at = strrchr(bytes, ')');
	if (!open || !close_at ||
	    sscanf(close_at + 2,
		   "%c %lld %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %lld",
		   &state, &parent, &start_ticks) != 3)
		goto gone;
	size_t name_length = (size_t)(close_at - open - 1);
	/* Only comm: /proc appends more for kernel threads. */
	if (name_length > COMM_LENGTH_MAX)
		name_length = COMM_LENGTH_MAX;
	json_begin("process");
	json_text("process_name", open + 1, name_length);
	json_integer("process_id", process->pid);
	exec_id("process_self_exec_id", open + 1);
	if (fstatat(folder, "exe", &executable, 0) == 0)
		json_integer("process_file_size_bytes", executable.st_size);
	process_link("process_executable_path", folder, "exe");
	process_link("process_current_working_directory", folder, "cwd");
	ssize_t length = proc_read_at(folder, "cmdline", &bytes);
	if (length > 0)
		command_line(bytes, (size_t)length);
	json_integer("_start_ticks", start_ticks);
	if (process->kernel)
		json_boolean("_kernel", true);
	json_integer("process_parent_process_id", parent);
	if (proc_read_at(folder, "status", &bytes) > 0) {
		pair(bytes, "\nUid:\t", "process_real_user_id", "process_effective_user_id");
		pair(bytes, "\nGid:\t", "process_real_group_id", "process_effective_group_id");
		char *line = strstr(bytes, "\nState:\t");

		/* Reading /proc itself makes kernel threads run. */
		if (line && !(process->kernel && line[8] == 'R'))
			json_text("process_state", line + 8, strcspn(line + 8, "\n"));
	}
	login("process_login_user_id", folder, "loginuid");
	login("process_audit_session_id", folder, "sessionid");
	cpu_time(process->pid);
	container_id(folder);
	process_link("process_pid_namespace", folder, "ns/pid");
	process_link("process_mount_points_namespace", folder, "ns/mnt");
	process_link("process_network_namespace", folder, "ns/net");
	json_end();
gone:
	if (folder >= 0)
		close(folder);
}

void truth_processes(const struct processes *all)
{
	for (size_t i = 0; i < all->count; i++)
		one_process(&all->items[i]);
}

static void one_thread(int pid, int tid)
{
	char path[64], state, *bytes;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	if (proc_read(path, &bytes) < 0)
		return;
	char *open = strchr(bytes, '('), *close = strrchr(bytes, ')');
	if (!open || !close || sscanf(close + 2, "%c", &state) != 1)
		return;
	size_t length = (size_t)(close - open - 1);
	json_begin("thread");
	json_integer("process_id", pid);
	json_integer("thread_id", tid);
	json_integer("thread_exit_state",
		     state == 'Z' ? EXIT_ZOMBIE : state == 'X' ? EXIT_DEAD : 0);
	exec_id("thread_self_exec_id", open + 1);
	json_text("_thread_name", open + 1, length > COMM_LENGTH_MAX ? COMM_LENGTH_MAX : length);
	json_end();
}

void truth_threads(const struct processes *all)
{
	for (size_t i = 0; i < all->count; i++)
		for (size_t j = 0; j < all->items[i].thread_count; j++)
			one_thread(all->items[i].pid, all->items[i].threads[j]);
}
