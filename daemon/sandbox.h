/* SPDX-License-Identifier: MIT */
/*
 * The system calls that are left to the daemon once it is set up. Whoever takes it over by what
 * a client sent has these and no others: he starts no program, makes no memory executable, reaches
 * no network and no stream socket, and makes no file but one that is appended to.
 *
 * One table says it. The filter is built from it; the manual, the units and what a traced daemon
 * really does are compared with it by tests.
 */
#ifndef DAEMON_SANDBOX_H
#define DAEMON_SANDBOX_H

#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>

#define SANDBOX_COMPARES_MAX 2u

/* A call that may be made, where its arguments are such. A name may be there more than once. */
struct sandbox_call {
    const char *name;
    int number;   /* negative where this architecture has no such call */
    bool of_path; /* only for a daemon that made its socket at a path, which it removes */
    unsigned compares_count;
    struct scmp_arg_cmp compares[SANDBOX_COMPARES_MAX];
    const char *seldom; /* when it is made, if a client's ordinary work does not show it */
};

extern const struct sandbox_call sandbox_calls[];
extern const size_t sandbox_calls_count;

/*
 * For this process, all its threads and for good. Once everything is opened and before anyone is
 * served. `has_path`: it listens on a path of its own. 0 or -errno; also 0 in a build that is
 * instrumented (JITBROKER_INSTRUMENTED), where nothing is done: sanitizers and the like make calls of
 * their own.
 */
int sandbox_install(bool has_path);

#endif
