/*
 * Files for tests of the page cache:
 *
 *   files make FOLDER count=N seed=N   makes N files of all sizes, some with holes; always the same
 *   files huge FOLDER count=N seed=N   makes N files of huge pages on hugetlbfs, every second with
 *                                      a hole
 *   files hold FOLDER [map]            a process that reads every file below a folder to its end
 *                                      and keeps it open (and mapped)
 *   files evict FOLDER seed=N          evicts pages of the files below a folder from the page
 *                                      cache, if possible
 *   files touch FOLDER every=N         opens every Nth file for writing, and changes every second
 *                                      of these with 16 bytes or more; prints its path
 *   files press FOLDER percent=N       a process that allocates memory until only N percent of all
 *                                      files' pages are left, or much was swapped
 *   files resident FOLDER              prints which pages of each file are in memory, as JSON lines
 */
#include "workload.h"

#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Sizes around boundaries: a page, a node of the page cache's tree, a huge page, another node. */
static const long long edges[] = {
	0,	    1,		 15,	      64,	  1000,		4095,	     4096,	  4097,
	8191,	    8192,	 8193,	      12288,	  16383,	16384,	     16385,	  65535,
	65536,	    65537,	 262143,      262144,	  262145,	1 << 20,     (1 << 20) + 1, (1 << 21) - 1,
	1 << 21,    (1 << 21) + 1, (4 << 20) + 77, (16 << 20) - 1, (16 << 20) + 4097, (20 << 20) + 5,
};

/* The bytes written into the middle of a changed file. */
#define CHANGE "changed"

static long wanted, number, open_count;
static bool map_too;
static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static const char *trouble(const char *what, const char *path)
{
	static char message[600];

	snprintf(message, sizeof(message), "%s %s: %s", what, path, strerror(errno));
	return message;
}

static bool fill(int fd, long long at, long long length)
{
	static uint64_t buffer[1 << 13];

	while (length > 0) {
		size_t part = length < (long long)sizeof(buffer) ? (size_t)length : sizeof(buffer);

		for (size_t i = 0; i < (part + 7) / 8; i++)
			buffer[i] = next_random();
		if (pwrite(fd, buffer, part, at) != (ssize_t)part)
			return false;
		at += (long long)part;
		length -= (long long)part;
	}
	return true;
}

/* Every tenth has holes: at its beginning, in the middle or at its end. */
static bool fill_file(int fd, long index, long long size)
{
	if (index % 10 != 9)
		return fill(fd, 0, size);
	if (ftruncate(fd, size) != 0)
		return false;
	for (int piece = 0; piece < 3 && size > 0; piece++) {
		long long at = (long long)(next_random() % (uint64_t)size);
		long long length = (long long)(next_random() % 20000);

		if (!fill(fd, at, length < size - at ? length : size - at))
			return false;
	}
	return true;
}

static const char *make(const char *folder, long count, long seed)
{
	char path[512];
	const long edge_count = (long)(sizeof(edges) / sizeof(*edges));

	mkdir(folder, 0755);
	for (long i = 0; i < count; i++) {
		state = (uint64_t)(seed * 1000003 + i) * 0x9e3779b97f4a7c15u | 1;
		next_random();
		uint64_t bits = next_random() % 18;
		long long size = (long long)(next_random() % (1u << bits));

		/* From the smallest on, as far as the count allows. */
		if (i < edge_count && edges[i] <= (long long)count << 16)
			size = edges[i];
		if (i % 100 == 0) {
			snprintf(path, sizeof(path), "%s/%02ld", folder, i / 100);
			mkdir(path, 0755);
		}
		snprintf(path, sizeof(path), "%s/%02ld/%04ld-of-%lld", folder, i / 100, i, size);
		int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		bool done = fd >= 0 && fill_file(fd, i, size);

		if (!done)
			return trouble("make", path);
		close(fd);
	}
	return NULL;
}

static const char *make_huge(const char *folder, long count, long seed)
{
	const size_t page = 2 << 20;
	char path[512];

	mkdir(folder, 0755);
	snprintf(path, sizeof(path), "%s/00", folder);
	mkdir(path, 0755);
	for (long i = 0; i < count; i++) {
		size_t size = page * (size_t)(1 + i % 3);

		state = (uint64_t)(seed * 1000003 + i) * 0x9e3779b97f4a7c15u | 1;
		snprintf(path, sizeof(path), "%s/00/%04ld-of-%zu", folder, i, size);
		int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		void *map = MAP_FAILED;

		if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
			map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			return trouble("make", path);
		for (size_t at = i % 2 ? page : 0; at < size; at += 8)
			*(uint64_t *)((char *)map + at) = next_random();
		munmap(map, size);
		close(fd);
	}
	return NULL;
}

static int hold_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
	static char buffer[1 << 16];

	(void)where;
	if (type != FTW_F || !S_ISREG(status->st_mode))
		return 0;
	int fd = open(path, O_RDONLY);
	ssize_t got;

	if (fd < 0) {
		workload_note("open %s: %s", path, strerror(errno));
		return 0;
	}
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		;
	if (got < 0)
		workload_note("read %s: %s", path, strerror(errno));
	if (map_too && status->st_size > 0 &&
	    mmap(NULL, (size_t)status->st_size, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		workload_note("map %s: %s", path, strerror(errno));
	open_count++;
	return 0;
}

static void hold(void *folder)
{
	open_count = 0;
	if (nftw(folder, hold_one, 32, FTW_PHYS) != 0)
		workload_note("%s: %s", (const char *)folder, strerror(errno));
}

/* Some files lose no page, some all, some a few runs of pages. */
static int evict_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)where;
	if (type != FTW_F || !S_ISREG(status->st_mode) || status->st_size == 0)
		return 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long long pages = (status->st_size + 4095) / 4096;
	int runs = (int)(next_random() % 4);

	if (next_random() % 8 == 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (int run = 0; run < runs && fd >= 0; run++) {
		long long first = (long long)(next_random() % (uint64_t)pages);
		long long length = 1 + (long long)(next_random() % (uint64_t)(pages - first));

		posix_fadvise(fd, first * 4096, length * 4096, POSIX_FADV_DONTNEED);
	}
	if (fd >= 0)
		close(fd);
	return 0;
}

static int touch_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)where;
	if (type != FTW_F || !S_ISREG(status->st_mode) || number++ % wanted != 0)
		return 0;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool change = status->st_size >= 16 && number / wanted % 2 == 0;

	if (fd < 0)
		return -1;
	if (change && pwrite(fd, CHANGE, strlen(CHANGE), status->st_size / 2) != strlen(CHANGE))
		return -1;
	if (change)
		out_say("%s", path);
	return close(fd);
}

/* A number of /proc/meminfo, in KiB. */
static long meminfo(const char *key)
{
	char line[128];
	long value = 0;
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':')
			value = strtol(line + strlen(key) + 1, NULL, 10);
	if (file)
		fclose(file);
	return value;
}

/* KiB of files' pages. */
static long cached(void)
{
	return meminfo("Cached") + meminfo("Buffers");
}

/* With a swap device, swapped memory of this process itself shows that it is enough. */
static void press(void *percent)
{
	const size_t step = 4 << 20;
	long least = cached() / 100 * *(long *)percent;
	long swap = meminfo("SwapFree") - (256 << 10);

	while (cached() > least && meminfo("SwapFree") > swap) {
		char *more = mmap(NULL, step, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

		if (more == MAP_FAILED)
			break;
	}
}

static int tell_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
	long page = sysconf(_SC_PAGESIZE), resident = 0;
	char range[64];

	(void)where;
	if (type != FTW_F || !S_ISREG(status->st_mode) || status->st_size == 0)
		return 0;
	size_t pages = (size_t)((status->st_size + page - 1) / page);
	unsigned char *in = malloc(pages);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *map = mmap(NULL, (size_t)status->st_size, PROT_READ, MAP_SHARED, fd, 0);

	if (!in || map == MAP_FAILED || mincore(map, (size_t)status->st_size, in) != 0)
		return -1;
	json_begin("resident");
	json_string("path", path);
	json_integer("page_bytes", page);
	json_integer("pages", (long long)pages);
	json_list("resident");
	for (size_t i = 0; i < pages; i++) {
		size_t first = i;

		while (i < pages && in[i] & 1)
			i++;
		if (i == first)
			continue;
		resident += (long)(i - first);
		snprintf(range, sizeof(range), "%zu-%zu", first, i);
		json_list_text(range, strlen(range));
	}
	json_list_end();
	json_integer("resident_pages", resident);
	json_list("data");
	for (off_t data = 0; (data = lseek(fd, data, SEEK_DATA)) >= 0;) {
		off_t hole = lseek(fd, data, SEEK_HOLE);

		snprintf(range, sizeof(range), "%lld-%lld", (long long)(data / page),
			 (long long)((hole + page - 1) / page));
		json_list_text(range, strlen(range));
		data = hole;
	}
	json_list_end();
	json_end();
	munmap(map, (size_t)status->st_size);
	close(fd);
	free(in);
	return 0;
}

const char *files_command(char *arguments)
{
	char *word = strtok(arguments, " "), *folder = strtok(NULL, " ");
	char *rest = strtok(NULL, "");

	rest = rest ? rest : "";
	if (!word || !folder)
		return "files wants a word and a folder";
	long seed = workload_number(rest, "seed", 1);
	state = (uint64_t)seed * 0x9e3779b97f4a7c15u | 1;
	if (strcmp(word, "make") == 0)
		return make(folder, workload_number(rest, "count", 1000), seed);
	if (strcmp(word, "huge") == 0)
		return make_huge(folder, workload_number(rest, "count", 10), seed);
	if (strcmp(word, "hold") == 0) {
		map_too = strstr(rest, "map") != NULL;
		return workload_start("hold", hold, folder) > 0 ? NULL : "the process died";
	}
	if (strcmp(word, "evict") == 0)
		return nftw(folder, evict_one, 32, FTW_PHYS) == 0 ? NULL : trouble("evict", folder);
	if (strcmp(word, "touch") == 0) {
		number = 0;
		wanted = workload_number(rest, "every", 2);
		return nftw(folder, touch_one, 32, FTW_PHYS) == 0 ? NULL : trouble("touch", folder);
	}
	if (strcmp(word, "press") == 0) {
		long percent = workload_number(rest, "percent", 60);

		return workload_start("press", press, &percent) > 0 ? NULL : "the process died";
	}
	if (strcmp(word, "resident") == 0)
		return nftw(folder, tell_one, 32, FTW_PHYS) == 0 ? NULL : trouble("look at", folder);
	return "unknown; known are: make, huge, hold, evict, press, touch, resident";
}
