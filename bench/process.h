/* SPDX-License-Identifier: MIT */
/* What the kernel says about a process, and about memory as a whole. */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

#include <sys/types.h>

/* Its own memory, and what it has touched of shared memory. */
double process_memory_kib(pid_t pid);
/* How often its threads stopped running, and so were woken. */
double process_switches(pid_t pid);
double process_cpu_us(pid_t pid);
/* A line of /proc/meminfo, as in "Shmem:". */
double system_memory_kib(const char *key);

#endif
