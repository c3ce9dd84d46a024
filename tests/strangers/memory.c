/* Memory operations of programs, one per run: `memory WHAT`. Each prints `@act` right before, and
 * its addresses; then it waits until the watcher has scanned it: the rig answers `@scanned` through
 * a FIFO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

/* A page of text and one of data with no other content. */
__attribute__((aligned(PAGE), used, section(".text.apart"))) static void apart(void)
{
	__asm__ volatile(".rept 4096\n nop\n .endr");
}
extern const char __ehdr_start[];
static char data[2 * PAGE] __attribute__((aligned(PAGE))) = { 1 };

static void check(int failed, const char *what)
{
	if (failed) {
		perror(what);
		exit(1);
	}
}

/* Waits until the watcher has completed a whole scan. */
static void scanned(void)
{
	char path[64], answer[8] = "";

	snprintf(path, sizeof path, "/run/pace/%d", getpid());
	mkfifo(path, 0600);
	int fifo = open(path, O_RDWR);
	check(fifo < 0, path);
	printf("@scanned %d\n", getpid());
	fflush(stdout);
	check(read(fifo, answer, sizeof answer) < 1 || answer[0] != 'y', "scanned");
	close(fifo);
}

/* Prints the addresses in the form of the records. */
static void act(const void *start, size_t length)
{
	printf("@fact pid %d\n", getpid());
	printf("@fact start 0x%lx\n@fact end 0x%lx\n", (unsigned long)start,
	       (unsigned long)start + length);
	printf("@act\n");
	fflush(stdout);
}

static void protect(void *start, size_t length, int permissions)
{
	check(mprotect(start, length, permissions), "mprotect");
}

/* Three pages, so that the middle one becomes an area of its own. */
static char *pages(int permissions, int flags)
{
	char *start = mmap(NULL, 3 * PAGE, permissions, flags | MAP_ANONYMOUS, -1, 0);
	check(start == MAP_FAILED, "mmap");
	return start;
}

static const unsigned char CODE[] = { 0xb8, 42, 0, 0, 0, 0xc3 }; /* mov $42,%eax; ret */

static void run(const char *code)
{
	if (((int (*)(void))(uintptr_t)code)() != 42)
		exit(2);
}

/* New memory, written, then made executable. */
static void written(int settle, int permissions)
{
	char *start = pages(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	memset(start, 0x90, 3 * PAGE);
	memcpy(start + PAGE, CODE, sizeof CODE);
	if (settle)
		scanned();
	act(start + PAGE, PAGE);
	protect(start + PAGE, PAGE, permissions);
	run(start + PAGE);
}

/* Text is patched; with `forget`, the file's first page is dropped before. */
static void text(int forget)
{
	char *start = (char *)(uintptr_t)apart;
	scanned();
	act(start, PAGE);
	if (forget) {
		/* Once before, so that the loader need not look it up again. */
		protect(start, PAGE, PROT_READ | PROT_EXEC);
		check(madvise((void *)(uintptr_t)__ehdr_start, PAGE, MADV_DONTNEED), "madvise");
	}
	protect(start, PAGE, PROT_READ | PROT_WRITE);
	memcpy(start, CODE, sizeof CODE);
	scanned();
	protect(start, PAGE, PROT_READ | PROT_EXEC);
	run(start);
}

/* The same in a worker, which has touched only the pages of the file that it runs. */
static void worker(void)
{
	pid_t child = fork();
	if (child == 0) {
		text(1);
		scanned();
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static void stack(void)
{
	char here[4 * PAGE];
	char *start = (char *)(((uintptr_t)here + PAGE) & ~(uintptr_t)(PAGE - 1));
	memset(here, 0, sizeof here);
	memcpy(start, CODE, sizeof CODE);
	scanned();
	act(start, PAGE);
	protect(start, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	run(start);
	scanned();
}

static void heap(void)
{
	char *start = sbrk(4 * PAGE);
	start = (char *)(((uintptr_t)start + PAGE) & ~(uintptr_t)(PAGE - 1));
	memcpy(start, CODE, sizeof CODE);
	scanned();
	act(start, PAGE);
	protect(start, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	run(start);
}

static void in_data(void)
{
	memcpy(data, CODE, sizeof CODE);
	scanned();
	act(data, PAGE);
	protect(data, PAGE, PROT_READ | PROT_EXEC);
	run(data);
}

static void shared(void)
{
	char *start = pages(PROT_READ | PROT_WRITE, MAP_SHARED);
	memcpy(start + PAGE, CODE, sizeof CODE);
	scanned();
	act(start + PAGE, PAGE);
	protect(start + PAGE, PAGE, PROT_READ | PROT_EXEC);
	run(start + PAGE);
}

/* As a runtime lays out its code: a piece of a large range that nothing else uses. */
static void reserved(void)
{
	const size_t much = 32 << 20;
	char *range = mmap(NULL, much, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(range == MAP_FAILED, "mmap");
	char *start = range + much / 2;
	protect(start, PAGE, PROT_READ | PROT_WRITE);
	memset(start, 0x90, PAGE);
	memcpy(start, CODE, sizeof CODE);
	scanned();
	act(start, PAGE);
	protect(start, PAGE, PROT_READ | PROT_EXEC);
	run(start);
}

/* Code is written, hidden, and written again. */
static void hidden(void)
{
	char *start = pages(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	memset(start, 0x90, 3 * PAGE);
	memcpy(start + PAGE, CODE, sizeof CODE);
	scanned();
	act(start + PAGE, PAGE);
	protect(start + PAGE, PAGE, PROT_READ | PROT_EXEC);
	run(start + PAGE);
	scanned();
	protect(start + PAGE, PAGE, PROT_READ | PROT_WRITE);
	scanned();
	protect(start + PAGE, PAGE, PROT_READ | PROT_EXEC);
}

static void forked(void)
{
	written(0, PROT_READ | PROT_EXEC);
	pid_t child = fork();
	if (child == 0) {
		scanned();
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static void mapped(void)
{
	char *start = pages(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE);
	act(start, 3 * PAGE);
	memcpy(start, CODE, sizeof CODE);
	run(start);
}

/* Without execution: areas are mapped, unmapped, grown, split and merged. */
static int deep(int levels)
{
	volatile char frame[PAGE];
	frame[0] = (char)levels;
	return levels == 0 ? 0 : deep(levels - 1) + frame[0];
}

static void churn(void)
{
	act(NULL, 0);
	time_t end = time(NULL) + 3;
	for (unsigned turn = 0; time(NULL) < end; turn++) {
		char *block = malloc(1 << 20);
		memset(block, (int)turn, 1 << 20);
		free(block);
		char *start = pages(PROT_READ | PROT_WRITE, MAP_PRIVATE);
		memset(start, 1, 3 * PAGE);
		protect(start + PAGE, PAGE, PROT_READ);
		protect(start + PAGE, PAGE, PROT_NONE);
		protect(start + PAGE, PAGE, PROT_READ | PROT_WRITE);
		munmap(start + PAGE, PAGE);
		munmap(start, 3 * PAGE);
		/* In place of data, memory like a regular expression's code. */
		start = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
		memset(start, 1, 32 * PAGE);
		munmap(start + 8 * PAGE, 16 * PAGE);
		char *code = mmap(start + 8 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		memset(code, 1, PAGE);
		munmap(start, 32 * PAGE);
		deep((int)(turn % 64));
	}
}

static void libraries(const char *path)
{
	act(NULL, 0);
	for (int turn = 0; turn < 5; turn++) {
		void *library = dlopen(path, RTLD_NOW);
		check(library == NULL, "dlopen");
		scanned();
		dlclose(library);
		scanned();
	}
}

/* The same process executes this program again and again. */
static void again(char **arguments, int times)
{
	char left[16];
	if (times == 0)
		return;
	if (times == 200)
		act(NULL, 0);
	snprintf(left, sizeof left, "%d", times - 1);
	char *next[] = { arguments[0], arguments[1], left, NULL };
	execv("/proc/self/exe", next);
	check(1, "execv");
}

int main(int count, char **arguments)
{
	const char *what = count > 1 ? arguments[1] : "";
	const char *more = count > 2 ? arguments[2] : "0";
	const int rx = PROT_READ | PROT_EXEC, rwx = rx | PROT_WRITE;

	if (!strcmp(what, "mapped")) mapped();
	else if (!strcmp(what, "written")) written(1, rx);
	else if (!strcmp(what, "at-once")) written(0, rx);
	else if (!strcmp(what, "writable")) written(1, rwx);
	else if (!strcmp(what, "text")) text(0);
	else if (!strcmp(what, "worker")) worker();
	else if (!strcmp(what, "stack")) stack();
	else if (!strcmp(what, "heap")) heap();
	else if (!strcmp(what, "data")) in_data();
	else if (!strcmp(what, "shared")) shared();
	else if (!strcmp(what, "reserved")) reserved();
	else if (!strcmp(what, "hidden")) hidden();
	else if (!strcmp(what, "forked")) forked();
	else if (!strcmp(what, "churn")) churn();
	else if (!strcmp(what, "libraries")) libraries(more);
	else if (!strcmp(what, "again")) again(arguments, atoi(more));
	else if (!strcmp(what, "stay")) act(NULL, 0);
	else return 3;
	scanned();
	return 0;
}
