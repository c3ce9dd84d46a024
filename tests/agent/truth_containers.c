/* Truth about containers: from the paths of control groups, and the processes in them. */
#include "truth.h"

#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ID_LENGTH 64
#define DEPTH_MAX 64
#define PATH_LENGTH 1024
#define CONTAINERS_MAX 512

enum said { NOTHING, OUTSIDE, OUTSIDE_ABOVE, INSIDE };

/* One container named in a path. */
struct claim {
	char id[256];
	const char *runtime;
	bool plain; /* Only a bare name is evidence for it. */
	int depth; /* Number of folders in its own path. */
};

struct container {
	struct claim claim;
	char path[PATH_LENGTH], parent[256], pod[80];
	int first;
	bool first_inside;
	long long first_start;
};

static struct container all[CONTAINERS_MAX];
static size_t count;

static const struct {
	const char *part, *runtime;
} runtimes[] = {
	{ "cri-containerd", "containerd" }, { "nerdctl-", "containerd" }, { "docker-", "docker" },
	{ ":docker:", "docker" },	    { "crio-", "cri-o" },	  { "libpod-", "podman" },
	{ "crun-", "crun" },		    { "runc-", "runc" },
};

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);

	return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* The 64 hexadecimal digits that container runtimes put into the name of a cgroup. */
static const char *find_id(const char *name)
{
	while (*name) {
		size_t digits = strspn(name, "0123456789abcdef");

		if (digits == ID_LENGTH)
			return name;
		name += digits ? digits : 1;
	}
	return NULL;
}

/* Copies a name, with systemd's \x2d decoded. */
static enum said take(struct claim *claim, const char *name, size_t length, const char *runtime)
{
	size_t used = 0;

	for (size_t at = 0; at < length && used < sizeof(claim->id) - 1; used++) {
		unsigned byte;

		if (length - at >= 4 && sscanf(name + at, "\\x%2x", &byte) == 1) {
			claim->id[used] = (char)byte;
			at += 4;
		} else {
			claim->id[used] = name[at++];
		}
	}
	claim->id[used] = '\0';
	claim->runtime = runtime;
	return used ? INSIDE : NOTHING;
}

static enum said one_name(const char *name, const char *above, struct claim *claim)
{
	size_t length = strlen(name);
	const char *id = find_id(name);
	const char *runtime = NULL;

	if (ends_with(name, ".slice"))
		return NOTHING;
	if (id) {
		if (strstr(name, "conmon-"))
			return OUTSIDE;
		for (size_t i = 0; i < sizeof(runtimes) / sizeof(*runtimes); i++)
			if (!runtime && strstr(name, runtimes[i].part))
				runtime = runtimes[i].runtime;
		if (!runtime && strcmp(above, "docker") == 0)
			runtime = "docker";
		return take(claim, id, ID_LENGTH, runtime);
	}
	if (strncmp(name, "lxc.monitor", 11) == 0 || strcmp(above, "lxc.monitor") == 0)
		return OUTSIDE;
	if (strcmp(name, "supervisor") == 0 && strncmp(above, "machine-", 8) == 0)
		return OUTSIDE_ABOVE;
	if (strncmp(name, "lxc.payload.", 12) == 0)
		return take(claim, name + 12, length - 12, "lxc");
	if (strcmp(above, "lxc") == 0 || strcmp(above, "lxc.payload") == 0)
		return take(claim, name, length, "lxc");
	if (strncmp(name, "crun-", 5) == 0 && ends_with(name, ".scope"))
		return take(claim, name + 5, length - 11, "crun");
	if (strncmp(name, "machine-lxc\\x2d", 15) == 0) {
		/* Kind, number and name, with \x2d between. */
		const char *last = strstr(name + 15, "\\x2d") + 4;

		return take(claim, last, strlen(last) - 6, "libvirt-lxc");
	}
	if (strncmp(name, "machine-", 8) == 0 && ends_with(name, ".scope") && !strstr(name, "qemu"))
		return take(claim, name + 8, length - 14, "systemd-nspawn");
	if (strncmp(name, "systemd-nspawn@", 15) == 0)
		return take(claim, name + 15, length - 23, "systemd-nspawn");
	return NOTHING;
}

/* Splits a path into its names. */
static int split(char *path, char **names)
{
	int depth = 0;

	for (char *name = strtok(path, "/"); name && depth < DEPTH_MAX; name = strtok(NULL, "/"))
		names[depth++] = name;
	return depth;
}

static bool innermost(char **names, int depth, struct claim *claim)
{
	bool outside = false;

	memset(claim, 0, sizeof(*claim));
	for (int at = depth - 1; at >= 0; at--) {
		enum said said = one_name(names[at], at ? names[at - 1] : "", claim);

		claim->depth = at + 1;
		if (said == INSIDE)
			return true;
		outside |= said != NOTHING;
		at -= said == OUTSIDE_ABOVE;
	}
	/* The groups of crun and runc without a manager. */
	int at = 0;
	while (at < depth && ends_with(names[at], ".slice"))
		at++;
	if (outside || at == depth || strchr(names[at], '.') || strncmp(names[at], "docker", 6) == 0 ||
	    strncmp(names[at], "kubepods", 8) == 0 || strncmp(names[at], "lxc", 3) == 0)
		return false;
	claim->depth = at + 1;
	claim->plain = true;
	return take(claim, names[at], strlen(names[at]), NULL) == INSIDE;
}

static ino_t namespace(int folder, const char *name)
{
	struct stat status;

	return fstatat(folder, name, &status, 0) == 0 ? status.st_ino : 0;
}

static bool has_own(int folder, const char *name)
{
	int own = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ino_t ours = namespace(own, name), theirs = namespace(folder, name);

	close(own);
	return theirs && ours != theirs;
}

/* The path that names a process's container, and the container: in version 2's hierarchy or else
 * in the others. */
static bool find(int folder, char *path, struct claim *claim)
{
	static char copy[1 << 16];
	char *names[DEPTH_MAX], part[PATH_LENGTH], *bytes, *rest;
	bool found_plain = false;
	struct claim plain;

	for (int unified = 1; unified >= 0; unified--) {
		if (proc_read_at(folder, "cgroup", &bytes) <= 0)
			return false;
		snprintf(copy, sizeof(copy), "%s", bytes);
		for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
			char *start = strchr(strchr(line, ':') + 1, ':') + 1;

			if ((strncmp(line, "0::", 3) == 0) != unified)
				continue;
			snprintf(part, sizeof(part), "%s", start);
			if (!innermost(names, split(part, names), claim))
				continue;
			if (!claim->plain || !found_plain)
				snprintf(path, PATH_LENGTH, "%s", start);
			if (!claim->plain)
				return true;
			if (!found_plain)
				plain = *claim;
			found_plain = true;
		}
	}
	*claim = plain;
	return found_plain && has_own(folder, "ns/pid") && has_own(folder, "ns/mnt");
}

void container_id(int folder)
{
	char path[PATH_LENGTH];
	struct claim claim;

	if (find(folder, path, &claim))
		json_string("process_container_id", claim.id);
}

/* kubepods-…-podUID.slice with _ for -, or podUID below kubepods. */
static void find_pod(char **names, int depth, char *pod)
{
	for (int at = 0; at < depth; at++) {
		char *uid = strncmp(names[at], "kubepods-", 9) == 0 ? strstr(names[at], "-pod") : NULL;

		if (!uid && at > 0 && strncmp(names[0], "kubepods", 8) == 0 &&
		    strncmp(names[at], "pod", 3) == 0)
			uid = names[at] - 1;
		if (!uid)
			continue;
		snprintf(pod, 37, "%s", uid + 4);
		for (char *byte = pod; *byte; byte++)
			*byte = *byte == '_' ? '-' : *byte;
	}
}

static struct container *container_at(char **names, const struct claim *claim)
{
	char path[PATH_LENGTH] = "";

	for (int at = 0; at < claim->depth; at++)
		snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s", names[at]);
	for (size_t i = 0; i < count; i++)
		if (strcmp(all[i].path, path) == 0)
			return &all[i];
	if (count == CONTAINERS_MAX)
		return NULL;
	struct container *new = memset(&all[count++], 0, sizeof(*new));

	new->claim = *claim;
	snprintf(new->path, sizeof(new->path), "%s", path);
	find_pod(names, claim->depth, new->pod);
	return new;
}

/* A process counts for its container and for the enclosing ones. */
static void count_process(int pid, int folder)
{
	char path[PATH_LENGTH], *names[DEPTH_MAX], *bytes, state;
	struct container *inner = NULL;
	struct claim claim;
	long long start;

	if (proc_read_at(folder, "stat", &bytes) < 0 ||
	    sscanf(strrchr(bytes, ')') + 2,
		   "%c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %lld",
		   &state, &start) != 2 || state == 'Z' || state == 'X' ||
	    !find(folder, path, &claim))
		return;
	int depth = split(path, names);
	/* A runtime's own processes may have one of these. */
	bool inside = has_own(folder, "ns/pid") && has_own(folder, "ns/mnt"), more = true;

	while (more && (!inner || !claim.plain)) {
		struct container *one = container_at(names, &claim);

		if (!one)
			return;
		if (!one->first || (inside && !one->first_inside) ||
		    (inside == one->first_inside && start < one->first_start)) {
			one->first = pid;
			one->first_inside = inside;
			one->first_start = start;
		}
		if (inner)
			snprintf(inner->parent, sizeof(inner->parent), "%s", claim.id);
		inner = one;
		depth = claim.depth - 1;
		more = innermost(names, depth, &claim);
	}
}

static void namespace_link(const char *key, int folder, const char *name)
{
	char *target;
	ssize_t length = proc_link_at(folder, name, &target);

	if (length >= 0)
		json_text(key, target, (size_t)length);
}

/* The host name in a process's namespace: a child enters it and asks. */
static void host_name(int folder)
{
	char name[65] = "";
	int ends[2], there = openat(folder, "ns/uts", O_RDONLY | O_CLOEXEC);

	if (there < 0 || !has_own(folder, "ns/uts") || pipe(ends) != 0) {
		close(there);
		return;
	}
	pid_t child = fork();
	if (child == 0) {
		if (setns(there, 0) == 0 && gethostname(name, sizeof(name)) == 0 &&
		    write(ends[1], name, strlen(name)) > 0)
			_exit(0);
		_exit(1);
	}
	close(ends[1]);
	ssize_t length = read(ends[0], name, sizeof(name));
	close(ends[0]);
	close(there);
	waitpid(child, NULL, 0);
	if (length > 0)
		json_text("container_hostname", name, (size_t)length);
}

void truth_containers(const struct processes *processes)
{
	char path[64];

	count = 0;
	for (size_t i = 0; i < processes->count; i++) {
		snprintf(path, sizeof(path), "/proc/%d", processes->items[i].pid);
		int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (folder < 0)
			continue;
		count_process(processes->items[i].pid, folder);
		close(folder);
	}
	for (size_t i = 0; i < count; i++) {
		const struct container *one = &all[i];

		snprintf(path, sizeof(path), "/proc/%d", one->first);
		int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		json_begin("container");
		json_string("container_id", one->claim.id);
		if (one->claim.runtime)
			json_string("container_runtime", one->claim.runtime);
		json_string("container_cgroup_path", one->path);
		namespace_link("container_pid_namespace", folder, "ns/pid");
		namespace_link("container_mount_points_namespace", folder, "ns/mnt");
		namespace_link("container_network_namespace", folder, "ns/net");
		json_integer("container_first_process_id", one->first);
		if (*one->parent)
			json_string("container_parent_id", one->parent);
		host_name(folder);
		if (*one->pod)
			json_string("container_pod_uid", one->pod);
		json_end();
		if (folder >= 0)
			close(folder);
	}
}
