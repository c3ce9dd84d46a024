/* Truth about memory areas: /proc/PID/maps. */
#include "truth.h"

#include <limits.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

/* The program that a process runs. */
struct program {
	bool known;
	bool on_overlay;
	struct stat inode;
	char path[8192];
};

struct area {
	unsigned long long start, end, inode;
	unsigned major, minor;
	char permissions[5];
	const char *name; /* Up to the end of its line. */
	size_t name_length;
};

/* One line: "start-end perms offset major:minor inode   name". */
static bool parse(const char *line, size_t length, struct area *area)
{
	int name_at = 0;

	if (sscanf(line, "%llx-%llx %4s %*x %x:%x %llu%n", &area->start, &area->end,
		   area->permissions, &area->major, &area->minor, &area->inode, &name_at) != 6)
		return false;
	area->name = line + name_at;
	area->name_length = length - (size_t)name_at;
	while (area->name_length > 0 && *area->name == ' ') {
		area->name++;
		area->name_length--;
	}
	return true;
}

static void file_names(const char *path, size_t length)
{
	size_t base = length;

	while (base > 0 && path[base - 1] != '/')
		base--;
	json_text("file_path", path, length);
	json_text("file_name", path + base, length - base);
}

/* The bytes of a path that maps escapes. */
static void mapped_file(int pid, const struct area *area)
{
	char path[64], *target;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", pid, area->start, area->end);
	ssize_t length = proc_link(path, &target);

	if (length >= 0)
		file_names(target, (size_t)length);
}

static struct program program_of(int pid)
{
	struct program program = { .known = false };
	struct statfs system;
	char path[64], *target;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	program.known = stat(path, &program.inode) == 0 && proc_link(path, &target) >= 0;
	if (program.known)
		snprintf(program.path, sizeof(program.path), "%s", target);
	program.on_overlay = program.known && statfs(path, &system) == 0 &&
			     system.f_type == OVERLAYFS_SUPER_MAGIC;
	return program;
}

/* Older kernels show in maps the inode of the lower layer for files on an overlay, while the
 * program's own link has that of the overlay: there the path decides. */
static bool is_program(const struct area *area, const struct program *program)
{
	if (!program->known)
		return false;
	if (area->inode == program->inode.st_ino &&
	    makedev(area->major, area->minor) == program->inode.st_dev)
		return true;
	return program->on_overlay && strlen(program->path) == area->name_length &&
	       memcmp(program->path, area->name, area->name_length) == 0;
}

static void one_area(int pid, const struct area *area, const struct program *program)
{
	char text[64];
	/* The first segment of System V shared memory is a file with inode number 0. */
	bool file = area->inode != 0 || area->major != 0 || area->minor != 0;

	json_begin("memory");
	json_integer("process_id", pid);
	snprintf(text, sizeof(text), "0x%llx", area->start);
	json_string("virtual_memory_area_start_address", text);
	snprintf(text, sizeof(text), "0x%llx", area->end);
	json_string("virtual_memory_area_end_address", text);
	json_string("memory_permissions", area->permissions);
	json_boolean("is_main_process_executable", file && is_program(area, program));
	if (!file) {
		if (area->name_length > 0)
			json_text("memory_name", area->name, area->name_length);
	} else if (area->name_length > 12 && memcmp(area->name, "[anon_shmem:", 12) == 0) {
		json_text("memory_name", area->name, area->name_length);
		mapped_file(pid, area);
	} else if (area->name_length >= PATH_MAX) {
		/* Only maps has such a path; readlink() fails because it is too long. */
	} else if (memmem(area->name, area->name_length, "\\012", 4)) {
		/* maps escapes a line break like this, but no backslash: get the bytes. */
		mapped_file(pid, area);
	} else {
		file_names(area->name, area->name_length);
	}
	json_end();
}

void truth_memory(const struct processes *all)
{
	for (size_t i = 0; i < all->count; i++) {
		int pid = all->items[i].pid;
		struct program program;
		char path[64], *bytes;

		if (all->items[i].kernel)
			continue;
		program = program_of(pid);
		snprintf(path, sizeof(path), "/proc/%d/maps", pid);
		if (proc_read(path, &bytes) < 0)
			continue;
		for (char *line = bytes, *end; (end = strchr(line, '\n')); line = end + 1) {
			struct area area;

			*end = '\0';
			if (parse(line, (size_t)(end - line), &area))
				one_area(pid, &area, &program);
		}
	}
}
