/* Truth about kernel modules: /proc/modules. */
#include "truth.h"

void truth_modules(void)
{
	char *bytes;

	if (proc_read("/proc/modules", &bytes) < 0)
		return;
	for (char *line = strtok(bytes, "\n"); line; line = strtok(NULL, "\n")) {
		char name[64];
		unsigned long long size;

		if (sscanf(line, "%63s %llu", name, &size) != 2)
			continue;
		json_begin("kernel_module");
		json_string("kernel_module_name", name);
		json_unsigned("kernel_module_size", size);
		json_end();
	}
}
