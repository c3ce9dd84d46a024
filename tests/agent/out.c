/* The answer's lines, and JSON objects in them. Not a general JSON writer: flat objects, lists. */
#include "agent.h"

#include <time.h>

static int out_fd = -1;
static char buffer[1 << 16];
static size_t used;
static bool first_item;

void out_open(int fd)
{
	out_fd = fd;
	used = 0;
}

void out_flush(void)
{
	size_t done = 0;

	while (done < used) {
		ssize_t wrote = write(out_fd, buffer + done, used - done);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			break; /* The host has disconnected. */
		done += (size_t)wrote;
	}
	used = 0;
}

void out_raw(const char *bytes, size_t length)
{
	while (length > 0) {
		size_t part = sizeof(buffer) - used;

		if (part == 0) {
			out_flush();
			continue;
		}
		if (part > length)
			part = length;
		memcpy(buffer + used, bytes, part);
		used += part;
		bytes += part;
		length -= part;
	}
}

static void put(const char *text)
{
	out_raw(text, strlen(text));
}

void out_say(const char *format, ...)
{
	char line[8192];
	va_list arguments;

	va_start(arguments, format);
	int length = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	if ((size_t)length >= sizeof(line))
		length = sizeof(line) - 1;
	put("|");
	out_raw(line, (size_t)length);
	put("\n");
}

void out_end(const char *error)
{
	if (error) {
		put("=error ");
		put(error);
		put("\n");
	} else {
		put("=ok\n");
	}
	out_flush();
}

/* How many bytes of well-formed UTF-8 start here; 0 if the first byte starts none. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	if (p[0] < 0x80)
		return 1;
	if (left >= 2 && p[0] >= 0xc2 && p[0] <= 0xdf && (p[1] & 0xc0) == 0x80)
		return 2;
	if (left >= 3 && (p[0] & 0xf0) == 0xe0 && (p[1] & 0xc0) == 0x80 && (p[2] & 0xc0) == 0x80) {
		if (p[0] == 0xe0 && p[1] < 0xa0)
			return 0;
		if (p[0] == 0xed && p[1] > 0x9f)
			return 0;
		return 3;
	}
	if (left >= 4 && p[0] >= 0xf0 && p[0] <= 0xf4 && (p[1] & 0xc0) == 0x80 &&
	    (p[2] & 0xc0) == 0x80 && (p[3] & 0xc0) == 0x80) {
		if (p[0] == 0xf0 && p[1] < 0x90)
			return 0;
		if (p[0] == 0xf4 && p[1] > 0x8f)
			return 0;
		return 4;
	}
	return 0;
}

/* A JSON string; each byte that is not UTF-8 becomes U+FFFD. */
static void put_quoted(const char *bytes, size_t length)
{
	const unsigned char *p = (const unsigned char *)bytes;

	put("\"");
	while (length > 0) {
		size_t step = utf8_length(p, length);

		if (step == 0) {
			put("\xef\xbf\xbd");
			step = 1;
		} else if (*p < 0x20 || *p == 0x7f) {
			char escape[8];

			snprintf(escape, sizeof(escape), "\\u%04x", *p);
			put(escape);
		} else {
			if (*p == '"' || *p == '\\')
				put("\\");
			out_raw((const char *)p, step);
		}
		p += step;
		length -= step;
	}
	put("\"");
}

static void put_key(const char *key)
{
	put(",\"");
	put(key);
	put("\":");
}

void json_begin(const char *kind)
{
	put("|{\"kind\":\"");
	put(kind);
	put("\"");
}

void json_end(void)
{
	put("}\n");
}

void json_text(const char *key, const char *bytes, size_t length)
{
	put_key(key);
	put_quoted(bytes, length);
}

void json_string(const char *key, const char *text)
{
	json_text(key, text, strlen(text));
}

void json_integer(const char *key, long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", value);
	put_key(key);
	put(text);
}

void json_unsigned(const char *key, unsigned long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", value);
	put_key(key);
	put(text);
}

void json_boolean(const char *key, bool value)
{
	put_key(key);
	put(value ? "true" : "false");
}

void json_null(const char *key)
{
	put_key(key);
	put("null");
}

void json_time(const char *key, long long seconds, long nanoseconds)
{
	/* A guest has few distinct seconds, and calendar functions are slow under emulation. */
	static char dates[64][32];
	static long long of[64];
	char *date = dates[(unsigned long long)seconds % 64], text[96];

	if (of[(unsigned long long)seconds % 64] != seconds || !*date) {
		time_t when = seconds;
		struct tm parts;

		gmtime_r(&when, &parts);
		strftime(date, sizeof(dates[0]), "%Y-%m-%dT%H:%M:%S", &parts);
		of[(unsigned long long)seconds % 64] = seconds;
	}
	snprintf(text, sizeof(text), "%s.%09ld+00:00", date, nanoseconds);
	json_string(key, text);
}

void json_list(const char *key)
{
	put_key(key);
	put("[");
	first_item = true;
}

static void next_item(void)
{
	if (!first_item)
		put(",");
	first_item = false;
}

void json_list_text(const char *bytes, size_t length)
{
	next_item();
	put_quoted(bytes, length);
}

void json_list_integer(long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", value);
	next_item();
	put(text);
}

void json_list_pair(const char *key, const char *text, const char *other, const char *value)
{
	next_item();
	put("{\"");
	put(key);
	put("\":");
	put_quoted(text, strlen(text));
	/* The next key follows a comma, as in every object. */
	json_string(other, value);
	put("}");
}

void json_list_end(void)
{
	put("]");
}
