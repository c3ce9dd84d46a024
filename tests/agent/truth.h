/* The parts of truth, one for each kind of line. */
#ifndef TRUTH_H
#define TRUTH_H

#include "proc.h"

void truth_processes(const struct processes *all);
void truth_threads(const struct processes *all);
void truth_memory(const struct processes *all);
void truth_modules(void);
void truth_bpf(void);
void truth_containers(const struct processes *all);

/* Prints the container of the process whose folder in /proc this is. */
void container_id(int folder);

/*
 * Walks every descriptor table once. Prints the descriptors on request, and always notes for
 * truth_network() which sockets and network namespaces they hold.
 */
const char *truth_files(const struct processes *all, bool print);

/* Connections and interfaces of every network namespace that a process or a descriptor holds. */
const char *truth_network(const struct processes *all, bool connections, bool interfaces);

/* Called by truth_files() to collect data for truth_network(). */
void network_note_holder(unsigned long inode, int pid, int index);
void network_note_namespace(unsigned long inode, const char *path);
void network_forget(void);

#endif
