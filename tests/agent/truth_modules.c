/*
 * Truth about kernel modules: /proc/modules, and what /sys/module has of the same ones.
 *
 * A module that only one of the two has gets an attribute that no scan prints.
 */
#include "truth.h"

#include <dirent.h>

#define FOLDER "/sys/module"
#define NAME_BYTES 64
#define MODULES_MAX 1024
#define SECTIONS_MAX 256
#define SECTION_NAME_BYTES 32 /* A scan reads no more of a name. */
#define NOTE_HEADER_BYTES 16  /* Three numbers, and "GNU". */

struct section {
	char name[SECTION_NAME_BYTES + 1];
	unsigned long long address;
};

static int by_text(const void *left, const void *right)
{
	return strcmp(*(char *const *)left, *(char *const *)right);
}

static int by_name(const void *left, const void *right)
{
	return strcmp(((const struct section *)left)->name, ((const struct section *)right)->name);
}

static void address(const char *key, unsigned long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "0x%llx", value);
	json_string(key, text);
}

/* "a,b,[permanent]," in the order of names, without what is in brackets. */
static void holders(char *list)
{
	char *names[SECTIONS_MAX], *rest;
	size_t count = 0;

	for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
		if (*name != '-' && *name != '[' && count < SECTIONS_MAX)
			names[count++] = name;
	if (count == 0) {
		json_null("kernel_module_holders");
		return;
	}
	qsort(names, count, sizeof(*names), by_text);
	json_list("kernel_module_holders");
	for (size_t i = 0; i < count; i++)
		json_list_text(names[i], strlen(names[i]));
	json_list_end();
}

/* "(OE)"; a sign after the letters says that the module begins or ends. */
static void taints(const char *flags)
{
	char letters[32];
	size_t count = 0;

	for (; flags && *flags && count < sizeof(letters) - 1; flags++)
		if (*flags >= 'A' && *flags <= 'Z')
			letters[count++] = *flags;
	if (count)
		json_text("kernel_module_taints", letters, count);
	else
		json_null("kernel_module_taints");
}

/* The one line of a file of a module. */
static void line_of(const char *module, const char *file, const char *key)
{
	char path[256], *bytes;

	snprintf(path, sizeof(path), FOLDER "/%s/%s", module, file);
	ssize_t length = proc_read(path, &bytes);
	if (length > 0 && bytes[length - 1] == '\n')
		length--;
	if (length > 0)
		json_text(key, bytes, (size_t)length);
	else
		json_null(key);
}

static void build_id(const char *module)
{
	const char *key = "kernel_module_build_id";
	char path[256], text[2 * 20 + 1], *bytes;

	snprintf(path, sizeof(path), FOLDER "/%s/notes/.note.gnu.build-id", module);
	ssize_t length = proc_read(path, &bytes);
	if (length != NOTE_HEADER_BYTES + 20) {
		json_null(key);
		return;
	}
	for (int i = 0; i < 20; i++)
		snprintf(text + 2 * i, 3, "%02x", (unsigned char)bytes[NOTE_HEADER_BYTES + i]);
	json_string(key, text);
}

static void sections(const char *module)
{
	static struct section all[SECTIONS_MAX];
	size_t count = 0;
	char path[256], *bytes;
	struct dirent *entry;

	snprintf(path, sizeof(path), FOLDER "/%s/sections", module);
	DIR *folder = opendir(path);
	while (folder && (entry = readdir(folder)) && count < SECTIONS_MAX) {
		struct section *section = &all[count];

		/* Most names begin with a dot. */
		if (entry->d_type == DT_DIR ||
		    proc_read_at(dirfd(folder), entry->d_name, &bytes) < 0)
			continue;
		snprintf(section->name, sizeof(section->name), "%.32s", entry->d_name);
		section->address = strtoull(bytes, NULL, 16);
		count++;
	}
	if (folder)
		closedir(folder);
	if (count == 0) {
		json_null("kernel_module_sections");
		return;
	}
	qsort(all, count, sizeof(*all), by_name);
	json_list("kernel_module_sections");
	for (size_t i = 0; i < count; i++) {
		char text[32];

		snprintf(text, sizeof(text), "0x%llx", all[i].address);
		json_list_pair("section_name", all[i].name, "section_address", text);
	}
	json_list_end();
}

/* Whether /sys/module has it as a module, not as a part of the kernel. */
static bool is_in_sys(const char *module)
{
	char path[512];

	snprintf(path, sizeof(path), FOLDER "/%s/initstate", module);
	return access(path, F_OK) == 0;
}

/* One line: name, size, uses, holders, state, address, and taints if there are any. */
static char *module(char *line)
{
	char *words[7] = { NULL }, *rest;

	for (size_t i = 0; i < 7 && (words[i] = strtok_r(i ? NULL : line, " ", &rest)); i++)
		;
	if (!words[5])
		return NULL;
	json_begin("kernel_module");
	json_string("kernel_module_name", words[0]);
	json_unsigned("kernel_module_size", strtoull(words[1], NULL, 10));
	json_string("kernel_module_state", words[4]);
	json_integer("kernel_module_reference_count", atoll(words[2]));
	holders(words[3]);
	taints(words[6]);
	line_of(words[0], "version", "kernel_module_version");
	line_of(words[0], "srcversion", "kernel_module_source_version");
	build_id(words[0]);
	address("kernel_module_address", strtoull(words[5], NULL, 16));
	sections(words[0]);
	if (!is_in_sys(words[0]))
		json_boolean("kernel_module_is_not_in_sys", true);
	json_end();
	return words[0];
}

/* The modules that /sys/module has and /proc/modules has not. */
static void others(char *const *known, size_t count)
{
	DIR *folder = opendir(FOLDER);
	struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		bool is_known = *entry->d_name == '.' || !is_in_sys(entry->d_name);

		for (size_t i = 0; i < count && !is_known; i++)
			is_known = strcmp(known[i], entry->d_name) == 0;
		if (is_known)
			continue;
		json_begin("kernel_module");
		json_string("kernel_module_name", entry->d_name);
		json_boolean("kernel_module_is_not_in_proc", true);
		json_end();
	}
	if (folder)
		closedir(folder);
}

void truth_modules(void)
{
	char *bytes, *list, *rest, *known[MODULES_MAX];
	size_t count = 0;

	if (proc_read("/proc/modules", &bytes) < 0)
		return;
	/* Other files are read meanwhile. */
	list = strdup(bytes);
	if (!list)
		return;
	for (char *line = strtok_r(list, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *name = module(line);

		if (name && count < MODULES_MAX)
			known[count++] = name;
	}
	others(known, count);
	free(list);
}
