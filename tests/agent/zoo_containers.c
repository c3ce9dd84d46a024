/* The zoo: processes in control groups named as by container runtimes, of both versions. */
#include "workload.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define UNIFIED "/sys/fs/cgroup"
#define VERSION_1 "/tmp/zoo/cgroup-v1"
#define ID "4f1c0de5a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc"
#define OTHER "00000000a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc"
#define POD "pod6aa3c8f5-ab1c-4e0a-9c59-2b3f8e3b6a10"
#define POD_SLICE "kubepods-burstable-pod6aa3c8f5_ab1c_4e0a_9c59_2b3f8e3b6a10.slice"

static const char *const groups[] = {
	"docker/" ID,
	"system.slice/docker-" ID ".scope",
	"system.slice/docker-" ID ".scope/init",
	"docker/" ID "/docker/" OTHER,
	"kubepods/burstable/" POD "/" ID,
	"kubepods.slice/kubepods-burstable.slice/" POD_SLICE "/cri-containerd-" ID ".scope",
	"kubepods.slice/kubepods-burstable.slice/" POD_SLICE "/crio-" ID ".scope",
	"kubepods.slice/kubepods-burstable.slice/" POD_SLICE "/crio-conmon-" ID ".scope",
	"system.slice/containerd.service/" POD_SLICE ":cri-containerd:" ID,
	"machine.slice/libpod-" ID ".scope/container",
	"machine.slice/libpod-conmon-" ID ".scope",
	"machine.slice/machine-libpod_pod_" OTHER ".slice/libpod-" ID ".scope",
	"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope",
	"lxc/101/ns/system.slice",
	"lxc.payload.web-1/init.scope",
	"lxc.payload/db",
	"lxc.monitor.web-1",
	"lxc.monitor/db",
	"machine.slice/machine-my\\x2dbox.scope/payload",
	"machine.slice/machine-my\\x2dbox.scope/supervisor",
	"machine.slice/systemd-nspawn@deb.service/payload",
	"machine.slice/machine-lxc\\x2d4711\\x2dweb.scope",
	"machine.slice/machine-qemu\\x2d1\\x2ddebian.scope",
	"system.slice/" ID "0.service",
	"system.slice/ssh.service",
	"system.slice/crun-web.scope/container",
	"lxc.payload.web-1/machine.slice/libpod-conmon-" ID ".scope",
	"machine.slice/machine-my\\x2dbox.scope/payload/docker/" ID,
	"plain",
};

static void make_folders(const char *path)
{
	char part[512];

	for (const char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		mkdir(part, 0755);
	}
	mkdir(path, 0755);
}

static void enter(const char *root, const char *group)
{
	char path[512], pid[16];

	snprintf(path, sizeof(path), "%s/%s", root, group);
	make_folders(path);
	strcat(path, "/cgroup.procs");
	snprintf(pid, sizeof(pid), "%d", getpid());
	zoo_write(path, pid);
}

static void inside(void *group)
{
	enter(UNIFIED, group);
}

/* Another group in version 2 than in version 1, as on machines with both. */
static void inside_version_1(void *group)
{
	enter(VERSION_1, group);
}

/* Its group is removed while it is a zombie. */
static void ended_inside(void *unused)
{
	siginfo_t info;

	(void)unused;
	enter(UNIFIED, "docker/" OTHER);
	pid_t child = workload_check(fork(), "fork");
	if (child == 0)
		_exit(0);
	waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
	enter(UNIFIED, "gone");
	rmdir(UNIFIED "/docker/" OTHER);
}

/* As crun makes it: own namespaces and host name. Its maker stays outside, in the group. */
static void inside_namespaces(void *group)
{
	enter(UNIFIED, group);
	if (workload_check(unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET),
			   "unshare") < 0)
		return;
	if (workload_check(fork(), "fork") == 0) {
		workload_check(sethostname("zoo-host", 8), "sethostname");
		workload_settled();
		workload_sleep();
	}
	/* A second report would have no reader and kill the process. */
	workload_leave_it_to_other();
}

void zoo_containers(void *unused)
{
	(void)unused;
	workload_start("contained-own", inside_namespaces, "web-2");
	workload_start("contained-own", inside_namespaces, "user.slice/user-0.slice/web-3");
	workload_start("contained-own", inside_namespaces,
		       "user.slice/user-0.slice/session-1.scope/web-4");
	workload_start("contained-own", inside_namespaces,
		       "kubepods.slice/kubepods-burstable.slice/" POD_SLICE "/cri-containerd-" OTHER ".scope");
	for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++)
		workload_start("contained", inside, (void *)groups[i]);
	workload_start("contained-end", ended_inside, NULL);
	mkdir(VERSION_1, 0755);
	/* A controller that version 2 does not use. */
	if (workload_check(mount("cgroup", VERSION_1, "cgroup", 0, "pids"), "mount cgroup v1") < 0)
		return;
	workload_start("contained-1", inside_version_1, "docker/" ID);
	workload_start("contained-1", inside_version_1, "lxc/102");
	workload_start("contained-1", inside_version_1, "user.slice");
}
