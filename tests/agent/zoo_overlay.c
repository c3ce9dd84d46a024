/* The zoo: the root of a container: an overlay of folders, with its own process. */
#include "workload.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define HOUSE "/tmp/zoo/overlay/"

static void copy_program(const char *target)
{
	static char buffer[1 << 16];
	int in = zoo_open("/bin/busybox", O_RDONLY);
	int out = open(target, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	ssize_t got;

	while (in >= 0 && out >= 0 && (got = read(in, buffer, sizeof(buffer))) > 0)
		if (write(out, buffer, (size_t)got) != got)
			workload_note("copy to %s: %s", target, strerror(errno));
	close(in);
	close(out);
}

static void folders(void)
{
	static const char *const all[] = { "", "low", "low/bin", "low/data", "middle", "middle/data",
					   "up", "work", "root" };
	char path[128];

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		snprintf(path, sizeof(path), HOUSE "%s", all[i]);
		mkdir(path, 0755);
	}
	copy_program(HOUSE "low/bin/sleep");
	zoo_write(HOUSE "low/data/low", "below\n");
	zoo_write(HOUSE "low/data/both", "below\n");
	zoo_write(HOUSE "low/data/changed", "not yet\n");
	zoo_write(HOUSE "low/data/removed", "soon\n");
	zoo_write(HOUSE "middle/data/both", "in the middle, and longer\n");
}

static void map_file(const char *path, int protection)
{
	int fd = zoo_open(path, O_RDONLY);

	if (fd >= 0 && mmap(NULL, 4096, protection, MAP_PRIVATE, fd, 0) == MAP_FAILED)
		workload_note("map %s: %s", path, strerror(errno));
}

/* Files of every layer: untouched, hidden, changed while open, made, removed. */
static void use(void)
{
	zoo_open("/", O_RDONLY | O_DIRECTORY);
	zoo_open("/data", O_RDONLY | O_DIRECTORY);
	zoo_open("/data/low", O_RDONLY);
	zoo_open("/data/both", O_RDONLY);
	zoo_open("/data/changed", O_RDONLY); /* Stays on the layer below. */
	int changed = zoo_open("/data/changed", O_WRONLY | O_APPEND);
	if (changed >= 0 && write(changed, "now changed\n", 12) != 12)
		workload_note("change a file: %s", strerror(errno));
	zoo_open("/data/changed", O_RDWR);
	zoo_open("/data/removed", O_RDONLY);
	unlink("/data/removed");
	zoo_write("/data/new", "of the upper layer\n");
	zoo_open("/data/new", O_RDWR);
	mkdir("/only-above", 0700);
	zoo_open("/only-above", O_RDONLY | O_DIRECTORY);
	map_file("/data/low", PROT_READ);
	map_file("/data/new", PROT_READ);
	map_file("/bin/sleep", PROT_READ | PROT_EXEC);
}

/* Not at the root, where the path on a layer differs from that on the overlay. */
static void aside(void *unused)
{
	char *arguments[] = { "sleep", "1000000", NULL };

	(void)unused;
	mkdir(HOUSE "aside", 0755);
	mkdir(HOUSE "aside-up", 0755);
	mkdir(HOUSE "aside-work", 0755);
	if (workload_check(mount("overlay", HOUSE "aside", "overlay", 0,
				 "lowerdir=" HOUSE "middle:" HOUSE "low,upperdir=" HOUSE
				 "aside-up,workdir=" HOUSE "aside-work"),
			   "mount an overlay") < 0)
		return;
	zoo_open(HOUSE "aside/data/both", O_RDONLY);
	zoo_open(HOUSE "aside/data/low", O_RDWR);
	zoo_write(HOUSE "aside/data/fresh", "of the upper layer\n");
	zoo_open(HOUSE "aside/data/fresh", O_RDWR);
	workload_check(chdir(HOUSE "aside/bin"), "chdir");
	pid_t child = workload_check(fork(), "fork");
	if (child == 0) {
		execv(HOUSE "aside/bin/sleep", arguments);
		_exit(127);
	}
	map_file(HOUSE "aside/data/both", PROT_READ);
	map_file(HOUSE "aside/data/low", PROT_READ | PROT_EXEC);
	map_file(HOUSE "aside/data/fresh", PROT_READ);
	zoo_write(HOUSE "aside/data/unlinked", "soon gone\n");
	map_file(HOUSE "aside/data/unlinked", PROT_READ);
	unlink(HOUSE "aside/data/unlinked");
}

void zoo_overlay(void *unused)
{
	char *arguments[] = { "sleep", "1000000", NULL };

	(void)unused;
	mkdir("/tmp/zoo/overlay", 0755);
	folders();
	workload_start("overlay-aside", aside, NULL);
	workload_check(unshare(CLONE_NEWNS), "unshare mounts");
	workload_check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make private");
	if (workload_check(mount("overlay", HOUSE "root", "overlay", 0,
				 "lowerdir=" HOUSE "middle:" HOUSE "low,upperdir=" HOUSE
				 "up,workdir=" HOUSE "work"),
			   "mount an overlay") < 0)
		return;
	workload_check(chdir(HOUSE "root"), "chdir");
	workload_check(mount(".", "/", NULL, MS_MOVE, NULL), "move the root");
	workload_check(chroot("."), "chroot");
	workload_check(chdir("/data"), "chdir");
	use();
	if (workload_check(fork(), "fork") == 0) {
		execv("/bin/sleep", arguments);
		_exit(127);
	}
}
