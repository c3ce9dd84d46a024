/* Truth about processes (other kinds follow). */
#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static char content[1 << 20];

/* Reads a whole small file below /proc; -1 where it cannot. */
static ssize_t read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;

	if (fd < 0)
		return -1;
	for (;;) {
		ssize_t got = read(fd, content + used, sizeof(content) - 1 - used);

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
	return (ssize_t)used;
}

static void process_link(const char *key, int pid, const char *name)
{
	static char target[8192];
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	ssize_t length = readlink(path, target, sizeof(target));
	if (length >= 0)
		json_text(key, target, (size_t)length);
}

static void command_line(const char *bytes, size_t length)
{
	static char joined[sizeof(content)];

	if (length == 0)
		return;
	if (bytes[length - 1] == '\0')
		length--;
	for (size_t i = 0; i < length; i++)
		joined[i] = bytes[i] ? bytes[i] : ' ';
	json_text("process_command_line_arguments", joined, length);
	json_list("process_command_line_argument_list");
	for (size_t start = 0; start <= length;) {
		size_t end = start;

		while (end < length && bytes[end])
			end++;
		json_list_text(bytes + start, end - start);
		start = end + 1;
	}
	json_list_end();
}

static void one_process(int pid)
{
	char path[64], name[65], state;
	struct stat exe;
	long long parent, start_ticks;
	unsigned flags;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_file(path) < 0)
		return;
	/* The name may hold anything, brackets too: it ends at the last one. */
	char *open = strchr(content, '('), *close = strrchr(content, ')');
	if (!open || !close)
		return;
	size_t name_length = (size_t)(close - open - 1);
	if (name_length >= sizeof(name))
		name_length = sizeof(name) - 1;
	memcpy(name, open + 1, name_length);
	if (sscanf(close + 2,
		   "%c %lld %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %lld",
		   &state, &parent, &flags, &start_ticks) != 4)
		return;
	if (name_length > 15)
		name_length = 15; /* The bare comm; /proc adds to those of kernel threads. */
	json_begin("process");
	json_text("process_name", name, name_length);
	json_integer("process_id", pid);
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	if (stat(path, &exe) == 0)
		json_integer("process_file_size_bytes", exe.st_size);
	process_link("process_executable_path", pid, "exe");
	process_link("process_current_working_directory", pid, "cwd");
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	ssize_t length = read_file(path);
	if (length > 0)
		command_line(content, (size_t)length);
	json_integer("_start_ticks", start_ticks);
	json_integer("process_parent_process_id", parent);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (read_file(path) > 0) {
		unsigned real, effective;
		char *line = strstr(content, "\nUid:");

		if (line && sscanf(line + 5, "%u %u", &real, &effective) == 2) {
			json_unsigned("process_real_user_id", real);
			json_unsigned("process_effective_user_id", effective);
		}
		line = strstr(content, "\nGid:");
		if (line && sscanf(line + 5, "%u %u", &real, &effective) == 2) {
			json_unsigned("process_real_group_id", real);
			json_unsigned("process_effective_group_id", effective);
		}
		line = strstr(content, "\nState:\t");
		if (line)
			json_text("process_state", line + 8, strcspn(line + 8, "\n"));
	}
	process_link("process_pid_namespace", pid, "ns/pid");
	process_link("process_mount_points_namespace", pid, "ns/mnt");
	process_link("process_network_namespace", pid, "ns/net");
	json_end();
}

const char *truth(const char *kinds)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	(void)kinds;
	if (!proc)
		return strerror(errno);
	while ((entry = readdir(proc)))
		if (isdigit((unsigned char)entry->d_name[0]) && atoi(entry->d_name) != getpid())
			one_process(atoi(entry->d_name));
	closedir(proc);
	return NULL;
}
