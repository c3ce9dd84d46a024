/*
 * A replacement for NVIDIA DOCA: the functions that Panoptes calls, with the same ABI (compiled
 * against the same header, engine/sources/doca/doca.h), over files instead of hardware.
 *
 * It implements only what the public references document. So it proves that Panoptes keeps to them
 * and handles everything that they allow, not that Panoptes works on a card.
 *
 * It reads its configuration, one setting per line, from `standin.conf` in the library's folder:
 *
 *     device NAME PCI            a DMA device; the following settings belong to it
 *     mute                       it copies no memory
 *     function VUID PF|VF|SF [PATH]   a function of the host, with the file for its memory
 *     functions PREFIX COUNT [PATH]   that many virtual functions PREFIX0, PREFIX1, …, with the
 *                                same memory, or none
 *     absent VUID PATH           while PATH exists, the function is not listed, and copies fail
 *     failing VUID PATH          while PATH exists, copies of the function fail
 *     batch_us N                 each copy takes that long, and so does a batch that is under way
 *     tasks N | copy_bytes N     the device's limits
 *     error_every N              every Nth copy completes with DOCA_ERROR_IO_FAILED
 *     bad FIRST LAST             so does every copy that touches these addresses
 *     short_every N              every Nth copy reports success for half its bytes
 *     slow_every N MICROSECONDS  every Nth copy takes that long
 *     lost_every N               every Nth copy never completes, unless the context is stopped
 *     again_every N              every Nth submission returns DOCA_ERROR_AGAIN
 *     refuse_every N             every Nth submission returns DOCA_ERROR_INVALID_VALUE
 *     stop_after N               after N copies the context stops, once, as after a fatal error
 *     dead_after N               after N copies no copy completes, and the context cannot be
 *                                stopped
 *     alive PATH                 while PATH exists, `dead_after` has no effect
 *     refuse_function            the host's memory map is refused
 *
 * Misuse that the references call undefined (a task submitted twice, a buffer outside its map, …)
 * ends the process with a message, so that a test fails.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../engine/sources/doca/doca.h"

#define FUNCTIONS_MAX 2048
#define DEVICES_MAX 8
#define BAD_MAX 8

#define MISUSE(...)                                                            \
	do {                                                                   \
		fprintf(stderr, "doca stand-in: misuse in %s: ", __func__);    \
		fprintf(stderr, __VA_ARGS__);                                  \
		fprintf(stderr, "\n");                                         \
		abort();                                                       \
	} while (0)
#define MUST(condition)                                                        \
	do {                                                                   \
		if (!(condition))                                              \
			MISUSE("%s does not hold", #condition);                \
	} while (0)

struct doca_devinfo_rep {
	char vuid[DOCA_DEVINFO_REP_VUID_SIZE];
	enum doca_pci_func_type kind;
	unsigned index;
	int file; /* -1: no memory */
	off_t bytes;
	char absent_while[256], failing_while[256]; /* empty: never */
};

struct doca_devinfo {
	char name[DOCA_DEVINFO_IBDEV_NAME_SIZE];
	char pci[DOCA_DEVINFO_PCI_ADDR_SIZE];
	bool mute, refuse_function;
	unsigned long tasks, copy_bytes;
	unsigned long error_every, short_every, slow_every, slow_us, lost_every, again_every, refuse_every;
	char alive_while[256]; /* empty: never */
	unsigned long stop_after, dead_after, batch_us;
	struct { uint64_t first, last; } bad[BAD_MAX];
	unsigned bad_count;
	/* Counters so far. */
	unsigned long copies, submissions;
	bool stopped_once;
	struct doca_devinfo_rep functions[FUNCTIONS_MAX];
	unsigned function_count;
};

struct doca_dev { struct doca_devinfo *info; };
struct doca_dev_rep { struct doca_devinfo_rep *info; };
struct doca_mmap {
	struct doca_dev_rep *host; /* whose memory; null: the device's own */
	uint64_t start, bytes;
	uint32_t access;
	bool started, has_range, has_device;
	unsigned long buffers;
};
struct doca_buf_inventory { size_t elements, used; bool started; };
struct doca_buf {
	struct doca_buf_inventory *inventory;
	struct doca_mmap *map;
	uint64_t start, bytes, data, data_bytes;
};
struct doca_ctx {
	enum doca_ctx_states state;
	union doca_data data;
	struct doca_pe *engine;
	struct doca_dma *dma; /* null: an emulated function's */
};
struct doca_dma {
	struct doca_ctx context;
	struct doca_devinfo *info;
	doca_dma_task_memcpy_completion_cb_t on_success, on_failure;
	uint32_t tasks_max, tasks;
	struct doca_dma_task_memcpy *first, **last; /* under way, oldest first */
	bool dead;
};
struct doca_pe { struct doca_ctx *contexts[4]; unsigned count; };
struct doca_task { int unused; };
struct doca_dma_task_memcpy {
	struct doca_task generic;
	struct doca_dma *dma;
	const struct doca_buf *source;
	struct doca_buf *destination;
	union doca_data data;
	bool under_way, lost;
	doca_error_t status;
	uint64_t copied, due_us;
	struct doca_dma_task_memcpy *next;
};
struct doca_devemu_pci_type { struct doca_dev *device; bool started; };
struct doca_devemu_pci_dev {
	struct doca_ctx context;
	struct doca_dev_rep *representor;
	struct doca_devemu_pci_type *type;
};
struct doca_devemu_pci_ep { struct doca_devemu_pci_dev function; };

static struct doca_devinfo devices[DEVICES_MAX];
static unsigned device_count;

static uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void add_function(struct doca_devinfo *device, const char *vuid, const char *kind,
			 const char *path)
{
	MUST(device->function_count < FUNCTIONS_MAX);
	unsigned index = device->function_count++;
	struct doca_devinfo_rep *function = &device->functions[index];
	snprintf(function->vuid, sizeof function->vuid, "%s", vuid);
	function->kind = *kind == 'P' ? DOCA_PCI_FUNC_TYPE_PF :
			 *kind == 'S' ? DOCA_PCI_FUNC_TYPE_SF :
					DOCA_PCI_FUNC_TYPE_VF;
	function->index = index;
	function->file = -1;
	if (path != NULL) {
		function->file = open(path, O_RDONLY | O_CLOEXEC);
		if (function->file < 0)
			MISUSE("%s: %s", path, strerror(errno));
		function->bytes = lseek(function->file, 0, SEEK_END);
	}
}

static struct doca_devinfo_rep *function_of(struct doca_devinfo *device, const char *vuid)
{
	for (unsigned i = 0; i < device->function_count; i++)
		if (strcmp(device->functions[i].vuid, vuid) == 0)
			return &device->functions[i];
	MISUSE("standin.conf: no function %s", vuid);
}

static bool holds(const char *path) { return *path != 0 && access(path, F_OK) == 0; }

static void load_once(void)
{
	Dl_info here;
	MUST(dladdr((void *)load_once, &here) != 0);
	char folder[4096], path[4200], line[4400];
	snprintf(folder, sizeof folder, "%s", here.dli_fname);
	snprintf(path, sizeof path, "%s/standin.conf", dirname(folder));
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return;
	struct doca_devinfo *device = NULL;
	while (fgets(line, sizeof line, file) != NULL) {
		char word[32], first[4200], second[4200], third[4200];
		int words = sscanf(line, "%31s %4199s %4199s %4199s", word, first, second, third);
		if (words < 1 || word[0] == '#')
			continue;
		if (strcmp(word, "device") == 0) {
			MUST(words == 3 && device_count < DEVICES_MAX);
			device = &devices[device_count++];
			snprintf(device->name, sizeof device->name, "%s", first);
			snprintf(device->pci, sizeof device->pci, "%s", second);
			device->tasks = 1024;
			device->copy_bytes = 2 << 20;
			continue;
		}
		MUST(device != NULL);
		unsigned long number = words > 1 ? strtoul(first, NULL, 0) : 0;
		if (strcmp(word, "mute") == 0)
			device->mute = true;
		else if (strcmp(word, "refuse_function") == 0)
			device->refuse_function = true;
		else if (strcmp(word, "function") == 0)
			add_function(device, first, second, words > 3 ? third : NULL);
		else if (strcmp(word, "functions") == 0)
			for (unsigned long i = 0; i < strtoul(second, NULL, 0); i++) {
				char vuid[4300];
				snprintf(vuid, sizeof vuid, "%s%lu", first, i);
				add_function(device, vuid, "VF", words > 3 ? third : NULL);
			}
		else if (strcmp(word, "absent") == 0)
			snprintf(function_of(device, first)->absent_while, 256, "%s", second);
		else if (strcmp(word, "failing") == 0)
			snprintf(function_of(device, first)->failing_while, 256, "%s", second);
		else if (strcmp(word, "alive") == 0)
			snprintf(device->alive_while, 256, "%s", first);
		else if (strcmp(word, "bad") == 0) {
			MUST(words == 3 && device->bad_count < BAD_MAX);
			device->bad[device->bad_count].first = number;
			device->bad[device->bad_count++].last = strtoul(second, NULL, 0);
		} else if (strcmp(word, "slow_every") == 0) {
			device->slow_every = number;
			device->slow_us = strtoul(second, NULL, 0);
		}
#define NUMBER(name) else if (strcmp(word, #name) == 0) device->name = number;
		NUMBER(tasks)
		NUMBER(copy_bytes)
		NUMBER(error_every)
		NUMBER(short_every)
		NUMBER(lost_every)
		NUMBER(again_every)
		NUMBER(refuse_every)
		NUMBER(stop_after)
		NUMBER(dead_after)
		NUMBER(batch_us)
		else MISUSE("standin.conf: %s", line);
	}
	fclose(file);
}

/* Threads of Panoptes may list devices at the same time. */
static void load(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load_once);
}

static bool is_nth(unsigned long every, unsigned long count)
{
	return every != 0 && count % every == 0;
}

/* ---- general ---- */

const char *doca_version_runtime(void) { return "3.2.0-standin"; }

const char *doca_error_get_name(doca_error_t error)
{
	return error == DOCA_SUCCESS ? "DOCA_SUCCESS" : "DOCA_ERROR";
}

const char *doca_error_get_descr(doca_error_t error)
{
	switch (error) {
	case DOCA_SUCCESS: return "Success";
	case DOCA_ERROR_AGAIN: return "Resource temporarily unavailable";
	case DOCA_ERROR_INVALID_VALUE: return "Invalid input";
	case DOCA_ERROR_NOT_PERMITTED: return "Operation not permitted";
	case DOCA_ERROR_NOT_SUPPORTED: return "Not supported";
	case DOCA_ERROR_IO_FAILED: return "Input/Output operation failed";
	case DOCA_ERROR_TIME_OUT: return "Timed out";
	case DOCA_ERROR_BAD_STATE: return "Bad state";
	default: return "Some other error";
	}
}

doca_error_t doca_log_backend_create_with_fd_sdk(int fd, struct doca_log_backend **backend)
{
	dprintf(fd, "doca stand-in: messages come here\n");
	*backend = NULL;
	return DOCA_SUCCESS;
}

doca_error_t doca_log_level_set_global_sdk_limit(uint32_t level)
{
	fprintf(stderr, "doca stand-in: messages of level %u\n", level);
	return level % 10 == 0 && level >= 10 && level <= 70 ? DOCA_SUCCESS : DOCA_ERROR_INVALID_VALUE;
}

/* ---- devices ---- */

doca_error_t doca_devinfo_create_list(struct doca_devinfo ***list, uint32_t *count)
{
	load();
	if (device_count == 0)
		return DOCA_ERROR_NOT_FOUND;
	*list = calloc(device_count + 1, sizeof **list);
	for (unsigned i = 0; i < device_count; i++)
		(*list)[i] = &devices[i];
	*count = device_count;
	return DOCA_SUCCESS;
}

doca_error_t doca_devinfo_destroy_list(struct doca_devinfo **list)
{
	free(list);
	return DOCA_SUCCESS;
}

doca_error_t doca_devinfo_get_ibdev_name(const struct doca_devinfo *info, char *name, uint32_t size)
{
	MUST(size >= DOCA_DEVINFO_IBDEV_NAME_SIZE);
	strcpy(name, info->name);
	return DOCA_SUCCESS;
}

doca_error_t doca_devinfo_get_pci_addr_str(const struct doca_devinfo *info, char *address)
{
	strcpy(address, info->pci);
	return DOCA_SUCCESS;
}

doca_error_t doca_dev_open(struct doca_devinfo *info, struct doca_dev **device)
{
	*device = calloc(1, sizeof **device);
	(*device)->info = info;
	return DOCA_SUCCESS;
}

doca_error_t doca_dev_close(struct doca_dev *device)
{
	free(device);
	return DOCA_SUCCESS;
}

struct doca_devinfo *doca_dev_as_devinfo(const struct doca_dev *device) { return device->info; }

doca_error_t doca_devinfo_rep_create_list(struct doca_dev *device,
					  int filter,
					  struct doca_devinfo_rep ***list,
					  uint32_t *count)
{
	struct doca_devinfo *info = device->info;
	if (info->function_count == 0 || filter == DOCA_DEVINFO_REP_FILTER_EMULATED)
		return DOCA_ERROR_NOT_SUPPORTED;
	*list = calloc(info->function_count + 1, sizeof **list);
	*count = 0;
	for (unsigned i = 0; i < info->function_count; i++)
		if (!holds(info->functions[i].absent_while))
			(*list)[(*count)++] = &info->functions[i];
	return DOCA_SUCCESS;
}

doca_error_t doca_devinfo_rep_destroy_list(struct doca_devinfo_rep **list)
{
	free(list);
	return DOCA_SUCCESS;
}

doca_error_t doca_devinfo_rep_get_vuid(const struct doca_devinfo_rep *info, char *vuid,
				       uint32_t size)
{
	MUST(size >= DOCA_DEVINFO_REP_VUID_SIZE);
	strcpy(vuid, info->vuid);
	return DOCA_SUCCESS;
}

doca_error_t doca_devinfo_rep_get_pci_addr_str(const struct doca_devinfo_rep *info, char *address)
{
	snprintf(address, DOCA_DEVINFO_REP_PCI_ADDR_SIZE, "0000:%02x:%02x.%x", 0x3b,
		 info->index / 8, info->index % 8);
	return DOCA_SUCCESS;
}

doca_error_t doca_devinfo_rep_get_pci_func_type(const struct doca_devinfo_rep *info,
						enum doca_pci_func_type *kind)
{
	*kind = info->kind;
	return DOCA_SUCCESS;
}

doca_error_t doca_dev_rep_open(struct doca_devinfo_rep *info, struct doca_dev_rep **representor)
{
	*representor = calloc(1, sizeof **representor);
	(*representor)->info = info;
	return DOCA_SUCCESS;
}

doca_error_t doca_dev_rep_close(struct doca_dev_rep *representor)
{
	free(representor);
	return DOCA_SUCCESS;
}

/* ---- memory ---- */

doca_error_t doca_mmap_create(struct doca_mmap **map)
{
	*map = calloc(1, sizeof **map);
	return DOCA_SUCCESS;
}

doca_error_t doca_mmap_destroy(struct doca_mmap *map)
{
	if (map->buffers != 0)
		MISUSE("%lu buffers still point into the map", map->buffers);
	free(map);
	return DOCA_SUCCESS;
}

doca_error_t doca_mmap_start(struct doca_mmap *map)
{
	if (!map->has_range || !map->has_device || map->started)
		return DOCA_ERROR_INVALID_VALUE;
	map->started = true;
	return DOCA_SUCCESS;
}

doca_error_t doca_mmap_add_dev(struct doca_mmap *map, struct doca_dev *device)
{
	MUST(!map->started && device != NULL);
	map->has_device = true;
	return DOCA_SUCCESS;
}

doca_error_t doca_mmap_set_memrange(struct doca_mmap *map, void *address, size_t bytes)
{
	if (address == NULL || bytes == 0 || map->started || map->has_range)
		return DOCA_ERROR_INVALID_VALUE;
	map->start = (uintptr_t)address;
	map->bytes = bytes;
	map->has_range = true;
	return DOCA_SUCCESS;
}

doca_error_t doca_mmap_set_permissions(struct doca_mmap *map, uint32_t access)
{
	MUST(!map->started);
	if (map->host != NULL && access != DOCA_ACCESS_FLAG_LOCAL_READ_ONLY)
		MISUSE("a host's memory is mapped for writing");
	map->access = access;
	return DOCA_SUCCESS;
}

doca_error_t doca_mmap_set_max_num_devices(struct doca_mmap *map, uint32_t count)
{
	return map->started || count == 0 ? DOCA_ERROR_NOT_PERMITTED : DOCA_SUCCESS;
}

doca_error_t doca_buf_inventory_create(size_t elements, struct doca_buf_inventory **inventory)
{
	*inventory = calloc(1, sizeof **inventory);
	(*inventory)->elements = elements;
	return DOCA_SUCCESS;
}

doca_error_t doca_buf_inventory_start(struct doca_buf_inventory *inventory)
{
	inventory->started = true;
	return DOCA_SUCCESS;
}

doca_error_t doca_buf_inventory_destroy(struct doca_buf_inventory *inventory)
{
	if (inventory->used != 0)
		MISUSE("%zu buffers were not given back", inventory->used);
	free(inventory);
	return DOCA_SUCCESS;
}

doca_error_t doca_buf_inventory_buf_get_by_args(struct doca_buf_inventory *inventory,
						struct doca_mmap *map,
						void *address,
						size_t bytes,
						void *data,
						size_t data_bytes,
						struct doca_buf **buffer)
{
	uint64_t start = (uintptr_t)address;
	MUST(inventory->started && map->started);
	if (inventory->used == inventory->elements)
		return DOCA_ERROR_NO_MEMORY;
	if (start < map->start || bytes > map->bytes || start - map->start > map->bytes - bytes)
		return DOCA_ERROR_INVALID_VALUE;
	MUST((uintptr_t)data >= start && data_bytes <= bytes &&
	     (uintptr_t)data - start <= bytes - data_bytes);
	struct doca_buf *made = malloc(sizeof *made);
	*made = (struct doca_buf){inventory, map, start, bytes, (uintptr_t)data, data_bytes};
	inventory->used++;
	map->buffers++;
	*buffer = made;
	return DOCA_SUCCESS;
}

doca_error_t doca_buf_dec_refcount(struct doca_buf *buffer, uint16_t *count)
{
	buffer->inventory->used--;
	buffer->map->buffers--;
	free(buffer);
	if (count != NULL)
		*count = 0;
	return DOCA_SUCCESS;
}

doca_error_t doca_buf_get_data_len(const struct doca_buf *buffer, size_t *bytes)
{
	*bytes = buffer->data_bytes;
	return DOCA_SUCCESS;
}

doca_error_t doca_buf_reset_data_len(struct doca_buf *buffer)
{
	buffer->data_bytes = 0;
	return DOCA_SUCCESS;
}

/* ---- contexts and the progress engine ---- */

doca_error_t doca_ctx_start(struct doca_ctx *context)
{
	if (context->state != DOCA_CTX_STATE_IDLE)
		return DOCA_ERROR_BAD_STATE;
	if (context->engine == NULL)
		return DOCA_ERROR_NOT_CONNECTED;
	/* An emulated function starts at once, a DMA context at the engine's next step. */
	context->state = context->dma == NULL ? DOCA_CTX_STATE_RUNNING : DOCA_CTX_STATE_STARTING;
	return context->dma == NULL ? DOCA_SUCCESS : DOCA_ERROR_IN_PROGRESS;
}

doca_error_t doca_ctx_stop(struct doca_ctx *context)
{
	if (context->state == DOCA_CTX_STATE_IDLE || context->state == DOCA_CTX_STATE_STOPPING)
		return DOCA_ERROR_BAD_STATE;
	if (context->dma == NULL || context->dma->tasks == 0) {
		context->state = DOCA_CTX_STATE_IDLE;
		return DOCA_SUCCESS;
	}
	context->state = DOCA_CTX_STATE_STOPPING;
	return DOCA_ERROR_IN_PROGRESS;
}

doca_error_t doca_ctx_set_user_data(struct doca_ctx *context, union doca_data data)
{
	MUST(context->state == DOCA_CTX_STATE_IDLE);
	context->data = data;
	return DOCA_SUCCESS;
}

doca_error_t doca_ctx_get_state(const struct doca_ctx *context, enum doca_ctx_states *state)
{
	*state = context->state;
	return DOCA_SUCCESS;
}

doca_error_t doca_pe_create(struct doca_pe **engine)
{
	*engine = calloc(1, sizeof **engine);
	return DOCA_SUCCESS;
}

doca_error_t doca_pe_destroy(struct doca_pe *engine)
{
	if (engine->count != 0)
		MISUSE("%u contexts are still connected", engine->count);
	free(engine);
	return DOCA_SUCCESS;
}

doca_error_t doca_pe_connect_ctx(struct doca_pe *engine, struct doca_ctx *context)
{
	MUST(context->engine == NULL && engine->count < 4);
	context->engine = engine;
	engine->contexts[engine->count++] = context;
	return DOCA_SUCCESS;
}

static void disconnect(struct doca_ctx *context)
{
	struct doca_pe *engine = context->engine;
	if (context->state != DOCA_CTX_STATE_IDLE)
		MISUSE("the context is not idle");
	for (unsigned i = 0; engine != NULL && i < engine->count; i++)
		if (engine->contexts[i] == context)
			engine->contexts[i] = engine->contexts[--engine->count];
}

/* Removes a task that is due from the queue and runs its callback. */
static bool progress_dma(struct doca_dma *dma)
{
	bool stopping = dma->context.state == DOCA_CTX_STATE_STOPPING;
	if (dma->dead && holds(dma->info->alive_while))
		dma->dead = false;
	if (dma->dead)
		return false;
	uint64_t now = dma->first == NULL ? 0 : now_us();
	for (struct doca_dma_task_memcpy **place = &dma->first; *place != NULL; place = &(*place)->next) {
		struct doca_dma_task_memcpy *task = *place;
		if (!stopping && (task->lost || (task->due_us != 0 && task->due_us > now))) {
			/* All take the same time, so what follows is not due either. */
			if (dma->info->batch_us != 0 && !task->lost)
				break;
			continue;
		}
		*place = task->next;
		if (*place == NULL)
			dma->last = place;
		task->under_way = false;
		if (stopping && (task->lost || task->status != DOCA_SUCCESS))
			task->status = DOCA_ERROR_IO_FAILED; /* flushed */
		bool good = task->status == DOCA_SUCCESS;
		if (good)
			task->destination->data_bytes += task->copied;
		(good ? dma->on_success : dma->on_failure)(task, task->data, dma->context.data);
		return true;
	}
	if (stopping && dma->tasks == 0) {
		dma->context.state = DOCA_CTX_STATE_IDLE;
		return true;
	}
	return false;
}

uint8_t doca_pe_progress(struct doca_pe *engine)
{
	for (unsigned i = 0; i < engine->count; i++) {
		struct doca_ctx *context = engine->contexts[i];
		if (context->state == DOCA_CTX_STATE_STARTING) {
			context->state = DOCA_CTX_STATE_RUNNING;
			return 1;
		}
		if (context->dma != NULL && progress_dma(context->dma))
			return 1;
	}
	return 0;
}

/* ---- DMA ---- */

doca_error_t doca_dma_create(struct doca_dev *device, struct doca_dma **dma)
{
	*dma = calloc(1, sizeof **dma);
	(*dma)->info = device->info;
	(*dma)->context.dma = *dma;
	(*dma)->last = &(*dma)->first;
	return DOCA_SUCCESS;
}

doca_error_t doca_dma_destroy(struct doca_dma *dma)
{
	disconnect(&dma->context);
	free(dma);
	return DOCA_SUCCESS;
}

struct doca_ctx *doca_dma_as_ctx(struct doca_dma *dma) { return &dma->context; }

doca_error_t doca_dma_cap_task_memcpy_is_supported(const struct doca_devinfo *info)
{
	return info->mute ? DOCA_ERROR_NOT_SUPPORTED : DOCA_SUCCESS;
}

doca_error_t doca_dma_cap_task_memcpy_get_max_buf_size(const struct doca_devinfo *info,
						       uint64_t *bytes)
{
	*bytes = info->copy_bytes;
	return DOCA_SUCCESS;
}

doca_error_t doca_dma_cap_get_max_num_tasks(struct doca_dma *dma, uint32_t *count)
{
	*count = (uint32_t)dma->info->tasks;
	return DOCA_SUCCESS;
}

doca_error_t doca_dma_task_memcpy_set_conf(struct doca_dma *dma,
					   doca_dma_task_memcpy_completion_cb_t on_success,
					   doca_dma_task_memcpy_completion_cb_t on_failure,
					   uint32_t tasks)
{
	MUST(dma->context.state == DOCA_CTX_STATE_IDLE && tasks > 0 && tasks <= dma->info->tasks);
	dma->on_success = on_success;
	dma->on_failure = on_failure;
	dma->tasks_max = tasks;
	return DOCA_SUCCESS;
}

doca_error_t doca_dma_task_memcpy_alloc_init(struct doca_dma *dma,
					     const struct doca_buf *source,
					     struct doca_buf *destination,
					     union doca_data data,
					     struct doca_dma_task_memcpy **task)
{
	MUST(dma->context.state == DOCA_CTX_STATE_RUNNING && source != NULL && destination != NULL);
	if (dma->tasks == dma->tasks_max)
		return DOCA_ERROR_NO_MEMORY;
	*task = calloc(1, sizeof **task);
	(*task)->dma = dma;
	(*task)->source = source;
	(*task)->destination = destination;
	(*task)->data = data;
	dma->tasks++;
	return DOCA_SUCCESS;
}

struct doca_task *doca_dma_task_memcpy_as_task(struct doca_dma_task_memcpy *task)
{
	return &task->generic;
}

void doca_dma_task_memcpy_set_src(struct doca_dma_task_memcpy *task, const struct doca_buf *source)
{
	if (task->under_way)
		MISUSE("the task is under way");
	task->source = source;
}

static void copy(struct doca_dma_task_memcpy *task)
{
	struct doca_devinfo *info = task->dma->info;
	const struct doca_buf *from = task->source;
	struct doca_buf *to = task->destination;
	uint64_t bytes = from->data_bytes, room = to->bytes - to->data_bytes;
	if (from->map->host == NULL || to->map->host != NULL ||
	    !(to->map->access & DOCA_ACCESS_FLAG_LOCAL_READ_WRITE))
		MISUSE("only copies from a host's memory to our own are expected");
	if (bytes == 0 || bytes > room || bytes > info->copy_bytes)
		MISUSE("a copy of %lu bytes, with room for %lu", (unsigned long)bytes, (unsigned long)room);
	task->status = DOCA_SUCCESS;
	for (unsigned i = 0; i < info->bad_count; i++)
		if (from->data <= info->bad[i].last && info->bad[i].first < from->data + bytes)
			task->status = DOCA_ERROR_IO_FAILED;
	if (is_nth(info->error_every, info->copies))
		task->status = DOCA_ERROR_IO_FAILED;
	if (is_nth(info->short_every, info->copies))
		bytes /= 2;
	char *place = (char *)(uintptr_t)(to->data + to->data_bytes);
	/* Bytes that are not delivered get a recognisable pattern. */
	memset(place, 0xdb, from->data_bytes);
	task->copied = bytes;
	if (task->status != DOCA_SUCCESS)
		return;
	const struct doca_devinfo_rep *function = from->map->host->info;
	if (holds(function->absent_while) || holds(function->failing_while)) {
		task->status = DOCA_ERROR_IO_FAILED;
		return;
	}
	for (uint64_t done = 0; done < bytes;) {
		ssize_t got = pread(function->file, place + done, bytes - done, (off_t)(from->data + done));
		if (got <= 0) {
			task->status = DOCA_ERROR_IO_FAILED;
			return;
		}
		done += (uint64_t)got;
	}
}

doca_error_t doca_task_submit(struct doca_task *generic)
{
	struct doca_dma_task_memcpy *task = (struct doca_dma_task_memcpy *)generic;
	struct doca_dma *dma = task->dma;
	struct doca_devinfo *info = dma->info;
	if (task->under_way)
		MISUSE("the task is under way already");
	if (dma->context.state != DOCA_CTX_STATE_RUNNING)
		return DOCA_ERROR_BAD_STATE;
	info->submissions++;
	if (is_nth(info->again_every, info->submissions))
		return DOCA_ERROR_AGAIN;
	if (is_nth(info->refuse_every, info->submissions))
		return DOCA_ERROR_INVALID_VALUE;
	info->copies++;
	copy(task);
	task->lost = is_nth(info->lost_every, info->copies);
	unsigned long us = is_nth(info->slow_every, info->copies) ? info->slow_us : info->batch_us;
	task->due_us = us != 0 ? now_us() + us : 0;
	if (info->dead_after != 0 && info->copies > info->dead_after && !holds(info->alive_while))
		dma->dead = true;
	if (info->stop_after != 0 && info->copies > info->stop_after && !info->stopped_once) {
		info->stopped_once = true;
		task->status = DOCA_ERROR_IO_FAILED;
		dma->context.state = DOCA_CTX_STATE_STOPPING;
	}
	task->under_way = true;
	task->next = NULL;
	*dma->last = task;
	dma->last = &task->next;
	return DOCA_SUCCESS;
}

void doca_task_free(struct doca_task *generic)
{
	struct doca_dma_task_memcpy *task = (struct doca_dma_task_memcpy *)generic;
	if (task->under_way)
		MISUSE("the task is under way");
	task->dma->tasks--;
	free(task);
}

doca_error_t doca_task_get_status(const struct doca_task *generic)
{
	return ((const struct doca_dma_task_memcpy *)generic)->status;
}

/* ---- emulated functions ---- */

doca_error_t doca_devemu_pci_type_create(const char *name, struct doca_devemu_pci_type **type)
{
	MUST(name != NULL && strlen(name) < 64);
	*type = calloc(1, sizeof **type);
	return DOCA_SUCCESS;
}

doca_error_t doca_devemu_pci_type_destroy(struct doca_devemu_pci_type *type)
{
	if (type->started)
		MISUSE("the type is started");
	free(type);
	return DOCA_SUCCESS;
}

doca_error_t doca_devemu_pci_type_set_dev(struct doca_devemu_pci_type *type,
					  struct doca_dev *device)
{
	type->device = device;
	return DOCA_SUCCESS;
}

doca_error_t doca_devemu_pci_type_start(struct doca_devemu_pci_type *type)
{
	if (type->device == NULL)
		return DOCA_ERROR_NOT_FOUND;
	type->started = true;
	return DOCA_SUCCESS;
}

doca_error_t doca_devemu_pci_type_stop(struct doca_devemu_pci_type *type)
{
	type->started = false;
	return DOCA_SUCCESS;
}

doca_error_t doca_devemu_pci_dev_create(struct doca_devemu_pci_type *type,
					struct doca_dev_rep *representor,
					struct doca_pe *engine,
					struct doca_devemu_pci_dev **function)
{
	MUST(type->started);
	if (representor->info->file < 0 || type->device->info->refuse_function)
		return DOCA_ERROR_INVALID_VALUE;
	*function = calloc(1, sizeof(struct doca_devemu_pci_ep));
	(*function)->representor = representor;
	(*function)->type = type;
	return doca_pe_connect_ctx(engine, &(*function)->context);
}

doca_error_t doca_devemu_pci_dev_destroy(struct doca_devemu_pci_dev *function)
{
	disconnect(&function->context);
	free(function);
	return DOCA_SUCCESS;
}

struct doca_ctx *doca_devemu_pci_dev_as_ctx(struct doca_devemu_pci_dev *function)
{
	return &function->context;
}

doca_error_t doca_devemu_pci_mmap_create(struct doca_devemu_pci_dev *function,
					 struct doca_mmap **map)
{
	if (function->context.state != DOCA_CTX_STATE_RUNNING)
		return DOCA_ERROR_BAD_STATE;
	*map = calloc(1, sizeof **map);
	(*map)->host = function->representor;
	return DOCA_SUCCESS;
}

#ifdef STANDIN_ENDPOINTS
struct doca_devemu_pci_ep *doca_devemu_pci_dev_as_ep(struct doca_devemu_pci_dev *function)
{
	return (struct doca_devemu_pci_ep *)function;
}

doca_error_t doca_devemu_pci_ep_mmap_create(struct doca_devemu_pci_ep *endpoint,
					    struct doca_mmap **map)
{
	return doca_devemu_pci_mmap_create(&endpoint->function, map);
}
#endif
