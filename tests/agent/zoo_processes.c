/* The zoo: processes and threads with states and names that are easily misread. */
#include "workload.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define HOUSE "/tmp/zoo/processes/"
#define BUSYBOX "/bin/busybox"

static void copy_file(const char *source, const char *target)
{
	static char buffer[1 << 16];
	int in = zoo_open(source, O_RDONLY);
	int out = open(target, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	ssize_t got;

	while (in >= 0 && out >= 0 && (got = read(in, buffer, sizeof(buffer))) > 0)
		if (write(out, buffer, (size_t)got) != got)
			workload_note("copy to %s: %s", target, strerror(errno));
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
}

static void execute(const char *path, char *const *arguments)
{
	execv(path, arguments);
	workload_note("execute %s: %s", path, strerror(errno));
}

/* Arguments. */

/* As setproctitle() does: overwrites the arguments and the environment, which is then gone. */
void zoo_retitle(void)
{
	char *bytes = NULL, *at = NULL;
	unsigned long start = 0, end = 0;
	FILE *stat = fopen("/proc/self/stat", "re");
	size_t size = 0;

	if (stat && getline(&bytes, &size, stat) > 0)
		at = strrchr(bytes, ')');
	/* arg_start, arg_end, env_start and env_end are fields 48 to 51. */
	for (int field = 2; at && field < 48; field++)
		at = strchr(at + 1, ' ');
	if (at)
		sscanf(at, "%lu %*u %*u %lu", &start, &end);
	for (unsigned long byte = start; byte < end; byte++)
		*(char *)byte = byte == end - 1 ? '\0' : "a longer title than it was "[byte % 27];
	if (stat)
		fclose(stat);
	free(bytes);
}

/* The agent under another name, with room to overwrite. */
static void long_title(void *unused)
{
	char *arguments[] = { ZOO_RETITLE, NULL };
	char *environment[] = { "ROOM=0123456789012345678901234567890123456789", "MORE=1", NULL };

	(void)unused;
	execve("/proc/self/exe", arguments, environment);
	workload_note("execute ourselves: %s", strerror(errno));
}

static void odd_arguments(void *unused)
{
	char *arguments[] = { "sh", "-c", "sleep 1000000; :", "", "two words", "line\nbreak\t",
			      "\xff\xfe\xc3\x28", "'\"\\", "", NULL };

	(void)unused;
	execute("/bin/sh", arguments);
}

static void long_arguments(void *unused)
{
	static char big[9000];
	char *arguments[] = { "sh", "-c", "sleep 1000000; :", big, "end", NULL };

	(void)unused;
	for (size_t i = 0; i < sizeof(big) - 1; i++)
		big[i] = (char)('A' + i % 26);
	execute("/bin/sh", arguments);
}

/* Moved arguments: across the boundary of two pages. */
static void moved_arguments(void *unused)
{
	static const char text[] = "moved\0arguments\0\0with an empty one";
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = pages + 4096 - 10;

	(void)unused;
	memcpy(at, text, sizeof(text));
	workload_check(prctl(PR_SET_MM, PR_SET_MM_ARG_START, at, 0, 0), "arg_start");
	workload_check(prctl(PR_SET_MM, PR_SET_MM_ARG_END, at + sizeof(text), 0, 0), "arg_end");
}

static void emptied_arguments(void *unused)
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	workload_check(prctl(PR_SET_MM, PR_SET_MM_ARG_START, page, 0, 0), "arg_start");
	workload_check(prctl(PR_SET_MM, PR_SET_MM_ARG_END, page, 0, 0), "arg_end");
}

/* They end beyond the last mapping. */
static void endless_arguments(void *unused)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	memset(pages, 'e', 4096);
	munmap(pages + 4096, 4096);
	workload_check(prctl(PR_SET_MM, PR_SET_MM_ARG_START, pages + 96, 0, 0), "arg_start");
}

/* No NUL at the end, and no environment after it. */
static void unended_arguments(void *unused)
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	memcpy(page, "one\0two", 7);
	workload_check(prctl(PR_SET_MM, PR_SET_MM_ARG_START, page, 0, 0), "arg_start");
	workload_check(prctl(PR_SET_MM, PR_SET_MM_ARG_END, page + 7, 0, 0), "arg_end");
}

/* Longer than a scan reads. */
static void huge_arguments(void *unused)
{
	static char big[30][3000];
	char *arguments[40] = { "sh", "-c", "sleep 1000000; :" };

	(void)unused;
	for (size_t i = 0; i < 30; i++) {
		memset(big[i], 'a' + (int)i % 26, sizeof(big[i]) - 1);
		arguments[i + 3] = big[i];
	}
	execute("/bin/sh", arguments);
}

/* A program that called exec this many times after the agent. */
static void often_executed(void *unused)
{
	char *arguments[] = { ZOO_EXECUTE "3", NULL };

	(void)unused;
	execute("/proc/self/exe", arguments);
}

void zoo_execute_again(const char *left)
{
	char name[16] = ZOO_EXECUTE "0";
	char *arguments[] = { name, NULL };

	if (*left > '1') {
		name[strlen(name) - 1] = (char)(*left - 1);
		execv("/proc/self/exe", arguments);
	}
	prctl(PR_SET_NAME, ZOO_EXECUTED "3");
}

static void no_arguments(void *unused)
{
	char *none[] = { NULL };

	(void)unused;
	/* The agent sleeps when it is called without a name. */
	copy_file("/proc/self/exe", HOUSE "init-again");
	execute(HOUSE "init-again", none);
}

/* Names. */

static void odd_name(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "a) R \xff\n\"\\(\x01z");
}

static void utf8_name(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "\xc5\xbe\xc5\xbe\xc5\xbe\xc5\xbe\xc5\xbe\xc5\xbe\xc5\xbe\xc5\xbe");
}

/* Programs. */

static void deleted_program(void *unused)
{
	char *arguments[] = { "sleep", "1000000", NULL };

	(void)unused;
	copy_file(BUSYBOX, HOUSE "sleep");
	if (workload_check(fork(), "fork") == 0) {
		usleep(200000);
		unlink(HOUSE "sleep");
		_exit(0);
	}
	execute(HOUSE "sleep", arguments);
}

static void program_in_memory(void *unused)
{
	char *arguments[] = { "sleep", "1000000", NULL };
	char *environment[] = { NULL };
	int memory = memfd_create("program", MFD_CLOEXEC);
	char path[64];

	(void)unused;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
	copy_file(BUSYBOX, path);
	fexecve(memory, arguments, environment);
	workload_note("fexecve: %s", strerror(errno));
}

static void bash(void *unused)
{
	char *arguments[] = { "bash", "-c", "read -r line < /tmp/zoo/processes/never", NULL };

	(void)unused;
	mkfifo(HOUSE "never", 0600);
	execute("/bin/bash", arguments);
}

/* Roots and folders. */

static void chrooted(void *unused)
{
	char *arguments[] = { "sleep", "1000000", NULL };

	(void)unused;
	mkdir(HOUSE "jail", 0755);
	mkdir(HOUSE "jail/bin", 0755);
	mkdir(HOUSE "jail/work", 0755);
	copy_file(BUSYBOX, HOUSE "jail/bin/sleep");
	workload_check(chroot(HOUSE "jail"), "chroot");
	workload_check(chdir("/work"), "chdir");
	int inside = open("/work/inside", O_RDWR | O_CREAT, 0600);
	dup2(inside, 5);
	execute("/bin/sleep", arguments);
}

static void lost_folder(void *unused)
{
	(void)unused;
	mkdir(HOUSE "lost", 0755);
	workload_check(chdir(HOUSE "lost"), "chdir");
	rmdir(HOUSE "lost");
}

static void own_mounts(void *unused)
{
	(void)unused;
	workload_check(unshare(CLONE_NEWNS), "unshare mounts");
	workload_check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make private");
	mkdir(HOUSE "private", 0755);
	workload_check(mount("tmpfs", HOUSE "private", "tmpfs", 0, NULL), "mount");
	zoo_open(HOUSE "private/file", O_RDWR | O_CREAT);
	zoo_open("/tmp/zoo/processes", O_RDONLY);
	workload_check(chdir(HOUSE "private"), "chdir");
}

/* As by switch_root and containers: another file system moved over the root. */
static void own_root(void *unused)
{
	char *arguments[] = { "sleep", "1000000", NULL };

	(void)unused;
	workload_check(unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP),
		       "unshare");
	workload_check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make private");
	mkdir(HOUSE "root", 0755);
	workload_check(mount("tmpfs", HOUSE "root", "tmpfs", 0, NULL), "mount");
	mkdir(HOUSE "root/bin", 0755);
	copy_file(BUSYBOX, HOUSE "root/bin/sleep");
	workload_check(chdir(HOUSE "root"), "chdir");
	workload_check(mount(".", "/", NULL, MS_MOVE, NULL), "move the root");
	workload_check(chroot("."), "chroot");
	workload_check(sethostname("inner", 5), "sethostname");
	int file = open("/file-of-the-new-root", O_RDWR | O_CREAT, 0600);
	dup2(file, 5);
	execute("/bin/sleep", arguments);
}

static void inner(void *unused)
{
	(void)unused;
}

static void own_pids(void *unused)
{
	(void)unused;
	workload_check(unshare(CLONE_NEWPID), "unshare pids");
	workload_start("inner-init", inner, NULL);
}

static void own_user(void *unused)
{
	(void)unused;
	workload_check(setresgid(1000, 1000, 1000), "setresgid");
	workload_check(setresuid(1000, 1000, 1000), "setresuid");
	workload_check(unshare(CLONE_NEWUSER), "unshare users");
}

static void own_network(void *unused)
{
	int client, server;

	(void)unused;
	workload_check(unshare(CLONE_NEWNET), "unshare network");
	if (system("ip link set lo up") != 0)
		workload_note("lo does not come up");
	if (!tcp_pair(AF_INET, &client, &server) || !tcp_pair(AF_INET6, &client, &server))
		workload_note("no connection: %s", strerror(errno));
}

/* Users and groups. */

static void other_users(void *unused)
{
	(void)unused;
	workload_check(setresgid(2001, 2002, 2003), "setresgid");
	workload_check(setresuid(1001, 1002, 1003), "setresuid");
}

static void big_user(void *unused)
{
	(void)unused;
	workload_check(setresgid(4294967294u - 1, 65534, 0), "setresgid");
	workload_check(setresuid(4294967294u - 1, 65534, 0), "setresuid");
}

/* A login, which changes of user leave as it is, and its child. */
static void logged_in(void *unused)
{
	(void)unused;
	zoo_write("/proc/self/loginuid", "1001");
	workload_check(setresuid(1002, 1002, 1002), "setresuid");
	if (workload_check(fork(), "fork") == 0)
		workload_sleep();
}

static void start_thread(void *(*run)(void *), void *argument);

/* States. */

static void with_zombie(void *unused)
{
	(void)unused;
	for (int i = 0; i < 2; i++) {
		pid_t child = workload_check(fork(), "fork");

		if (child == 0) {
			prctl(PR_SET_NAME, i ? "zombie-killed" : "zombie");
			if (i)
				kill(getpid(), SIGKILL);
			_exit(3);
		}
		siginfo_t info;
		waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
	}
}

static void stopped(void *unused)
{
	(void)unused;
	pid_t child = workload_check(fork(), "fork");
	if (child == 0) {
		prctl(PR_SET_NAME, "stopped");
		raise(SIGSTOP);
		workload_sleep();
	}
	waitpid(child, NULL, WUNTRACED);
}

static void traced(void *unused)
{
	(void)unused;
	pid_t child = workload_check(fork(), "fork");
	if (child == 0) {
		prctl(PR_SET_NAME, "traced");
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGTRAP);
		workload_sleep();
	}
	waitpid(child, NULL, 0);
}

static void *short_lived(void *unused)
{
	prctl(PR_SET_NAME, "ended-thread");
	usleep(300000);
	return unused;
}

/* A thread that has ended and is kept by its tracer. */
static void traced_thread(void *unused)
{
	(void)unused;
	int *tid = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child = workload_check(fork(), "fork");
	if (child == 0) {
		prctl(PR_SET_NAME, "with-ended");
		start_thread(short_lived, NULL);
		*tid = getpid() + 1;
		workload_sleep();
	}
	usleep(100000);
	workload_check((int)ptrace(PTRACE_SEIZE, *tid, NULL, NULL), "trace a thread");
	usleep(400000);
}

/* A parent in vfork() cannot be interrupted: state D. */
static void uninterruptible(void *unused)
{
	(void)unused;
	workload_settled();
	if (vfork() == 0)
		for (;;)
			syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
}

/* Threads. */

static void *named_thread(void *name)
{
	prctl(PR_SET_NAME, name);
	workload_sleep();
}

static void *own_table(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "own-table");
	workload_check(unshare(CLONE_FILES), "unshare files");
	close(0);
	zoo_open("/dev/null", O_RDONLY);
	zoo_open("/dev/zero", O_RDONLY | O_CLOEXEC);
	zoo_open(HOUSE "of-one-thread", O_RDWR | O_CREAT);
	workload_sleep();
}

static void start_thread(void *(*run)(void *), void *argument)
{
	pthread_t handle;

	if (pthread_create(&handle, NULL, run, argument) != 0)
		workload_note("a thread could not be made");
}

static void with_threads(void *unused)
{
	(void)unused;
	start_thread(named_thread, "first");
	start_thread(named_thread, "fifteen-letters");
	start_thread(named_thread, "\xff\xfe odd");
	start_thread(own_table, NULL);
	start_thread(own_table, NULL);
	zoo_open("/dev/null", O_RDWR);
	usleep(100000);
}

/* The first thread has ended; the others continue under its id. */
static void without_leader(void *unused)
{
	(void)unused;
	zoo_open("/dev/null", O_RDWR);
	start_thread(named_thread, "survivor");
	usleep(50000);
	workload_settled();
	syscall(SYS_exit, 0);
}

static int share_all(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "shares-all");
	workload_sleep();
}

/* Another process with the same memory and the same descriptor table. */
static void sharing(void *unused)
{
	static char stack[1 << 16] __attribute__((aligned(16)));

	(void)unused;
	zoo_open("/dev/zero", O_RDWR);
	workload_check(clone(share_all, stack + sizeof(stack),
			     CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD, NULL),
		       "clone");
}

static void no_descriptors(void *unused)
{
	(void)unused;
	for (int fd = 0; fd < 3; fd++)
		close(fd);
}

void zoo_processes(void *unused)
{
	static const struct {
		const char *name;
		workload *run;
	} all[] = {
		{ "long-title", long_title },	    { "odd-arguments", odd_arguments },
		{ "long-arguments", long_arguments }, { "odd-name", odd_name },
		{ "utf8-name", utf8_name },	    { "deleted-program", deleted_program },
		{ "in-memory", program_in_memory }, { "bash", bash },
		{ "chrooted", chrooted },	    { "lost-folder", lost_folder },
		{ "own-mounts", own_mounts },	    { "own-root", own_root },
		{ "own-pids", own_pids },	    { "own-user", own_user },
		{ "own-network", own_network },
		{ "other-users", other_users },	    { "big-user", big_user },
		{ "logged-in", logged_in },
		{ "with-zombie", with_zombie },	    { "with-stopped", stopped },
		{ "with-traced", traced },	    { "disk-sleep", uninterruptible },
		{ "with-threads", with_threads },   { "no-leader", without_leader },
		{ "sharing", sharing },		    { "no-descriptors", no_descriptors },
		{ "no-arguments", no_arguments },   { "moved-arguments", moved_arguments },
		{ "no-more-args", emptied_arguments }, { "unended-args", unended_arguments },
		{ "endless-args", endless_arguments },
		{ "huge-arguments", huge_arguments }, { "often-executed", often_executed },
		{ "traces-thread", traced_thread },
	};

	(void)unused;
	mkdir(HOUSE, 0755);
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		workload_start(all[i].name, all[i].run, NULL);
	/* The program of deleted-program is removed after its child has started. */
	usleep(400000);
}
