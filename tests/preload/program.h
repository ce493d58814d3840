/* SPDX-License-Identifier: MIT */
/*
 * What the programs of this folder are made of. They know nothing of a broker: each does with memory and
 * code what a JIT compiler may do, and checks what it sees. Run bare, every case passes: that is what says
 * that the case is right. Under jitbroker-run the same must be seen.
 *
 *   PROGRAM                     runs each case in a process of its own, by exec, so that one that dies ends
 * no other PROGRAM CASE                runs that case in this process PROGRAM --limits CASE...    runs each;
 * these are known not to pass, and fail if they do
 */
#ifndef TESTS_PRELOAD_PROGRAM_H
#define TESTS_PRELOAD_PROGRAM_H

#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/harness/code.h"

#define PAGE ((size_t)4096)
#define RX (PROT_READ | PROT_EXEC)
#define RW (PROT_READ | PROT_WRITE)
#define RWX (PROT_READ | PROT_WRITE | PROT_EXEC)

struct program_case {
    const char *name;
    const char *shows;
    void (*run)(void);
};

#define PROGRAM_COUNT(cases) (sizeof(cases) / sizeof(cases)[0])
/* What main() returns. */
int program_main(int argc, char **argv, const struct program_case *cases, size_t count);

/* Ends this process as failed, saying where and why, unless it is true. */
#define must(condition)                                       \
    do {                                                      \
        if (!(condition))                                     \
            program_fail(__FILE__, __LINE__, #condition, ""); \
    } while (0)
#define must_equal(is, should)                                                                 \
    do {                                                                                       \
        unsigned long long is_ = (unsigned long long)(is);                                     \
        unsigned long long should_ = (unsigned long long)(should);                             \
        char how_[96];                                                                         \
        if (is_ != should_) {                                                                  \
            (void)snprintf(how_, sizeof how_, ": it is %#llx, should be %#llx", is_, should_); \
            program_fail(__FILE__, __LINE__, #is, how_);                                       \
        }                                                                                      \
    } while (0)
void program_fail(const char *file, int line, const char *what, const char *how) __attribute__((noreturn));
/* If set, tells more of it. */
extern void (*program_tell)(void);
/* Ends this process as one that can't try that here. */
void program_skip(const char *why) __attribute__((noreturn));

/* Private and anonymous; never fails. */
uint8_t *map_pages(size_t pages, int protection);
void protect(void *at, size_t bytes, int protection);
void unmap(void *at, size_t bytes);

/* A function that returns the number, at a place that may be written. */
static inline void put(uint8_t *at, size_t number)
{
    code_return(at, (uint32_t)number);
}
/* Runs it. */
#define must_return(at, number) must_equal(code_call(at), (uint32_t)(number))
/* All zero. */
bool is_zero(const uint8_t *at, size_t bytes);

/* The child's status by wait, which must be of a child that exited with 0. */
void must_pass(pid_t child);
/* The child must have been ended by that signal. */
void must_die(pid_t child, int signal);
/* fork() that never fails. */
pid_t split(void);

/* Lines in /proc/self/maps, open descriptors, and resident memory in KiB. */
unsigned count_maps(void);
unsigned count_fds(void);
long resident_kib(void);

/*
 * Accesses that fault: by a SIGSEGV handler of the program's own, from faults_start() on. Each says whether
 * it faulted, and makes sure that the fault was at that address.
 */
void faults_start(void);
bool faults_read(const uint8_t *at);
bool faults_write(uint8_t *at); /* writes what is there */
bool faults_call(const uint8_t *at);

#endif
