/* The zoo: files by many names, on many mounts, opened in many ways. */
#include "workload.h"

#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define HOUSE "/tmp/zoo/files/"

int zoo_open(const char *path, int flags)
{
	int fd = open(path, flags, 0640);

	if (fd < 0)
		workload_note("open %s with %#o: %s", path, (unsigned)flags, strerror(errno));
	return fd;
}

void zoo_write(const char *path, const char *content)
{
	int fd = zoo_open(path, O_WRONLY | O_CREAT | O_TRUNC);

	if (fd >= 0 && write(fd, content, strlen(content)) < 0)
		workload_note("write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void flags(void)
{
	static const int ways[] = {
		O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_CLOEXEC, O_WRONLY | O_APPEND,
		O_RDWR | O_APPEND | O_NONBLOCK, O_RDONLY | O_NOATIME, O_RDWR | O_SYNC,
		O_RDWR | O_DSYNC, O_RDONLY | O_NOFOLLOW, O_PATH, O_PATH | O_CLOEXEC,
		O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOATIME,
	};
	int pipes[2];

	zoo_write(HOUSE "plain", "some bytes\n");
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		zoo_open(HOUSE "plain", ways[i]);
	zoo_open(HOUSE, O_RDONLY | O_DIRECTORY);
	zoo_open(HOUSE, O_PATH | O_DIRECTORY | O_NOFOLLOW);
	zoo_open(HOUSE, O_TMPFILE | O_RDWR);
	zoo_open(HOUSE, O_TMPFILE | O_WRONLY | O_EXCL);
	workload_check(pipe2(pipes, O_DIRECT), "a pipe of packets");
	if (workload_check(pipe2(pipes, O_NONBLOCK), "pipe") == 0)
		workload_check(fcntl(pipes[0], F_SETFL, O_ASYNC | O_NONBLOCK), "O_ASYNC");
	workload_check(symlink("plain", HOUSE "link"), "symlink");
	zoo_open(HOUSE "link", O_PATH | O_NOFOLLOW);
	zoo_open(HOUSE "link", O_RDONLY);
	workload_check(link(HOUSE "plain", HOUSE "hard-link"), "link");
	zoo_open(HOUSE "hard-link", O_RDONLY);
	zoo_write(HOUSE "setuid", "x");
	workload_check(chmod(HOUSE "setuid", 04755), "chmod");
	workload_check(chown(HOUSE "setuid", 1000, 100000), "chown");
	zoo_open(HOUSE "setuid", O_RDONLY);
	int sparse = zoo_open(HOUSE "sparse", O_RDWR | O_CREAT);
	workload_check(ftruncate(sparse, 5LL << 32), "ftruncate");
}

static void names(void)
{
	static const char *const odd[] = {
		"name with spaces", "tab\there", "line\nbreak", "carriage\rreturn",
		"quote\"and\\backslash", "octal-\\012-text", "\xc5\xbelu\xc5\xa5ou\xc4\x8dk\xc3\xbd",
		"\xe6\xbc\xa2\xe5\xad\x97-\xf0\x9f\xa6\x80", "latin1-\xe9-\xff", "overlong-\xc0\xaf",
		"surrogate-\xed\xa0\x80", "cut-\xe2\x82", "bell\a-escape\x1b[31m", "delete\x7f",
		"c1-\xc2\x85", "...", " ", "{\"kind\":\"process\"}", "socket:[1]", "pipe:[2]",
	};
	static const size_t lengths[] = { 1, 7, 8, 30, 31, 32, 33, 38, 39, 40, 41, 42, 64, 128, 254,
					  255 };
	char path[512];

	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		snprintf(path, sizeof(path), HOUSE "%s", odd[i]);
		zoo_open(path, O_RDWR | O_CREAT);
	}
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		size_t base = strlen(HOUSE);

		memcpy(path, HOUSE, base);
		for (size_t at = 0; at < lengths[i]; at++)
			path[base + at] = (char)('a' + at % 26);
		path[base + lengths[i]] = '\0';
		zoo_open(path, O_RDWR | O_CREAT);
	}
}

/* A file `levels` folders deep; names of 40 bytes do not fit into a dentry. */
static void deep(int levels)
{
	char name[64];

	workload_check(chdir(HOUSE), "chdir");
	for (int level = 0; level < levels; level++) {
		snprintf(name, sizeof(name), "level-%02d-of-%02d-in-a-rather-deep-folder-xx", level,
			 levels);
		if (mkdir(name, 0755) != 0 || chdir(name) != 0) {
			workload_note("folder %d: %s", level, strerror(errno));
			break;
		}
		if (level % 10 == 9)
			zoo_open("some-file", O_RDWR | O_CREAT);
	}
	zoo_open("deepest", O_RDWR | O_CREAT);
	workload_check(chdir("/"), "chdir");
}

static void gone(void)
{
	zoo_open(HOUSE "gone", O_RDWR | O_CREAT);
	unlink(HOUSE "gone");
	mkdir(HOUSE "gone-folder", 0755);
	zoo_open(HOUSE "gone-folder/inner", O_RDWR | O_CREAT);
	zoo_open(HOUSE "gone-folder", O_RDONLY | O_DIRECTORY);
	unlink(HOUSE "gone-folder/inner");
	rmdir(HOUSE "gone-folder");
	zoo_open(HOUSE "replaced", O_RDWR | O_CREAT);
	zoo_write(HOUSE "new", "new");
	workload_check(rename(HOUSE "new", HOUSE "replaced"), "rename");
	zoo_open(HOUSE "before", O_RDWR | O_CREAT);
	workload_check(rename(HOUSE "before", HOUSE "after"), "rename");
	mkdir(HOUSE "old-folder", 0755);
	zoo_open(HOUSE "old-folder/inside", O_RDWR | O_CREAT);
	workload_check(rename(HOUSE "old-folder", HOUSE "new-folder"), "rename");
}

static void mount_at(const char *what, const char *where, const char *type, unsigned long how)
{
	mkdir(where, 0755);
	if (mount(what, where, type, how, NULL) != 0)
		workload_note("mount %s on %s: %s", what, where, strerror(errno));
}

static void mounts(void)
{
	mount_at(HOUSE, "/tmp/zoo/bound", NULL, MS_BIND);
	zoo_open("/tmp/zoo/bound/plain", O_RDONLY);
	zoo_write("/tmp/zoo/bound-file", "");
	if (mount(HOUSE "plain", "/tmp/zoo/bound-file", NULL, MS_BIND, NULL) != 0)
		workload_note("bind a file: %s", strerror(errno));
	zoo_open("/tmp/zoo/bound-file", O_RDONLY);
	mount_at("tmpfs", "/tmp/zoo/other", "tmpfs", 0);
	zoo_open("/tmp/zoo/other/file", O_RDWR | O_CREAT);
	zoo_open("/tmp/zoo/other", O_RDONLY | O_DIRECTORY);
	mount_at("tmpfs", "/tmp/zoo/other/nested", "tmpfs", 0);
	zoo_open("/tmp/zoo/other/nested/file", O_RDWR | O_CREAT);
	mkdir("/tmp/zoo/over", 0755);
	zoo_open("/tmp/zoo/over/below", O_RDWR | O_CREAT);
	mount_at("tmpfs", "/tmp/zoo/over", "tmpfs", 0);
	mount_at("tmpfs", "/tmp/zoo/over", "tmpfs", 0);
	zoo_open("/tmp/zoo/over/above", O_RDWR | O_CREAT);
	/* An unmounted file system with an open file. */
	mount_at("tmpfs", "/tmp/zoo/lazy", "tmpfs", 0);
	mkdir("/tmp/zoo/lazy/folder", 0755);
	zoo_open("/tmp/zoo/lazy/folder/file", O_RDWR | O_CREAT);
	workload_check(umount2("/tmp/zoo/lazy", MNT_DETACH), "umount");
	/* A mount that was never attached. */
	int context = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	int detached = (int)syscall(SYS_fsmount, context, 0, 0);
	if (workload_check(detached, "fsmount") >= 0) {
		workload_check(mkdirat(detached, "folder", 0755), "mkdirat");
		workload_check(openat(detached, "folder/file", O_RDWR | O_CREAT, 0600), "openat");
	}
	/* The source of a bind mount is unlinked. */
	zoo_write(HOUSE "soon-gone", "");
	zoo_write("/tmp/zoo/bound-gone", "");
	if (mount(HOUSE "soon-gone", "/tmp/zoo/bound-gone", NULL, MS_BIND, NULL) == 0) {
		zoo_open("/tmp/zoo/bound-gone", O_RDONLY);
		unlink(HOUSE "soon-gone");
	}
	mkdir(HOUSE "folder-soon-gone", 0755);
	mount_at(HOUSE "folder-soon-gone", "/tmp/zoo/bound-folder", NULL, MS_BIND);
	zoo_open("/tmp/zoo/bound-folder", O_RDONLY | O_DIRECTORY);
	rmdir(HOUSE "folder-soon-gone");
	/* A mount that was moved with a file open on it. */
	mount_at("tmpfs", "/tmp/zoo/moving", "tmpfs", 0);
	zoo_open("/tmp/zoo/moving/file", O_RDWR | O_CREAT);
	mkdir("/tmp/zoo/moved", 0755);
	if (mount("/tmp/zoo/moving", "/tmp/zoo/moved", NULL, MS_MOVE, NULL) != 0)
		workload_note("move a mount: %s", strerror(errno));
	/* A bind mount of a deep folder, visible under a short path. */
	mkdir(HOUSE "far", 0755);
	mkdir(HOUSE "far/away", 0755);
	mount_at(HOUSE "far/away", "/tmp/zoo/near", NULL, MS_BIND);
	zoo_open("/tmp/zoo/near/file", O_RDWR | O_CREAT);
}

static void special_file_systems(void)
{
	zoo_open("/proc/self/status", O_RDONLY);
	zoo_open("/proc/1/maps", O_RDONLY);
	zoo_open("/proc/sys/kernel/hostname", O_RDONLY);
	zoo_open("/proc/net/tcp", O_RDONLY);
	zoo_open("/sys/kernel/uevent_seqnum", O_RDONLY);
	zoo_open("/sys/devices/system/cpu/online", O_RDONLY);
	zoo_open("/dev/shm/shared", O_RDWR | O_CREAT);
	zoo_open("/dev/mqueue/by-path", O_RDWR | O_CREAT);
	zoo_open("/root-file", O_RDWR | O_CREAT);
	workload_check((int)syscall(SYS_mq_open, "queue", O_RDWR | O_CREAT, 0600, NULL), "mq_open");
}

static void devices(void)
{
	static const char *const paths[] = { "/dev/null",  "/dev/zero",	   "/dev/urandom",
					     "/dev/kmsg",  "/dev/ttyS0",   "/dev/console",
					     "/dev/ptmx",  "/dev/loop0",   "/dev/loop-control" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
		zoo_open(paths[i], O_RDONLY | O_NOCTTY | O_NONBLOCK);
	zoo_open("/dev/null", O_WRONLY);
	zoo_write("/tmp/zoo/backing", "");
	int backing = zoo_open("/tmp/zoo/backing", O_RDWR);
	int loop = zoo_open("/dev/loop1", O_RDWR);
	if (backing >= 0 && loop >= 0 && ftruncate(backing, 1 << 20) == 0 &&
	    workload_check(ioctl(loop, LOOP_SET_FD, backing), "LOOP_SET_FD") == 0)
		zoo_open("/dev/loop1", O_RDONLY | O_DIRECT);
	workload_check(mknod("/tmp/zoo/block", S_IFBLK | 0600, 7 << 8 | 1), "mknod");
	zoo_open("/tmp/zoo/block", O_RDONLY);
	workload_check(mkfifo("/tmp/zoo/fifo", 0666), "mkfifo");
	zoo_open("/tmp/zoo/fifo", O_RDWR);
	zoo_open("/tmp/zoo/fifo", O_RDONLY | O_NONBLOCK);
}

void zoo_files(void *unused)
{
	(void)unused;
	mkdir(HOUSE, 0755);
	flags();
	names();
	deep(30);
	deep(80);
	deep(120); /* Beyond the longest path. */
	gone();
	mounts();
	special_file_systems();
	devices();
	close(0); /* A table with a hole. */
}
