/*
 * The agent inside a test guest: declarations shared by its parts.
 *
 * Commands arrive as lines over a virtio-serial port; every line of an answer starts with '|',
 * and the answer ends with "=ok" or "=error …". See agent.c.
 */
#ifndef AGENT_H
#define AGENT_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* out.c: lines of the answer, and JSON in them. */
void out_open(int fd);
void out_flush(void);
void out_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void out_raw(const char *bytes, size_t length);
void out_end(const char *error);

void json_begin(const char *kind);
void json_end(void);
void json_text(const char *key, const char *bytes, size_t length);
void json_string(const char *key, const char *text);
void json_integer(const char *key, long long value);
void json_unsigned(const char *key, unsigned long long value);
void json_boolean(const char *key, bool value);
/* An attribute that a correct scan leaves out. */
void json_null(const char *key);
void json_time(const char *key, long long seconds, long nanoseconds);
void json_list(const char *key);
void json_list_text(const char *bytes, size_t length);
void json_list_integer(long long value);
/* An object of two texts. */
void json_list_pair(const char *key, const char *text, const char *other, const char *value);
void json_list_end(void);

/* boot.c: from the kernel's start of init to a system that workloads can run in. */
void boot(void);
int boot_open_port(void);

/* truth.c: what a correct scan must print. */
const char *truth(const char *kinds);

#endif
