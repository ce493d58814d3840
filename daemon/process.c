/* SPDX-License-Identifier: MIT */
#include "daemon/process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/log.h"

/* In Linux's headers since 6.3. */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

/* AddressSanitizer's leak checker is a ptracer, which the process must let in. */
#ifdef __SANITIZE_ADDRESS__
#define HAS_LEAK_CHECKER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_LEAK_CHECKER
#endif
#endif

/* A session's socket, pidfd, arena, its ring's bell and, in direct mode, the arena's second descriptor. */
#define FDS_PER_SESSION 5u
/* Standard streams, listeners, libuv's own, and what is open for a moment. */
#define FDS_OTHER 64u

int process_open_standard_streams(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
        if (fd < 0)
            return -errno;
    } while (fd <= STDERR_FILENO);
    (void)close(fd);
    return 0;
}

void process_harden(void)
{
    const struct rlimit no_core = {0, 0};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        log_line(LOG_WARNING, "no_new_privs: %s", strerror(errno));
#ifndef JITBROKER_INSPECT /* valgrind makes the code that it runs */
    /* EINVAL: before Linux 6.3. EPERM: set already, with other flags. */
    if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0 && errno != EINVAL && errno != EPERM)
        log_line(LOG_WARNING, "memory-deny-write-execute: %s", strerror(errno));
#endif
    (void)setrlimit(RLIMIT_CORE, &no_core);
#ifndef HAS_LEAK_CHECKER
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        log_line(LOG_WARNING, "dumpable: %s", strerror(errno));
#endif
}

uint32_t process_fds_max(uint32_t sessions)
{
    return sessions * FDS_PER_SESSION + FDS_OTHER;
}

uint32_t process_allow_sessions(uint32_t sessions)
{
    rlim_t wanted = process_fds_max(sessions);
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return sessions;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            log_line(LOG_WARNING, "RLIMIT_NOFILE: %s", strerror(errno));
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur >= wanted)
        return sessions;
    if (sessions == 1)
        return 1; /* a private broker, which needs few of the others */
    sessions = limit.rlim_cur > FDS_OTHER ? (uint32_t)((limit.rlim_cur - FDS_OTHER) / FDS_PER_SESSION) : 0;
    log_line(LOG_WARNING, "descriptors for %u sessions only: raise LimitNOFILE= (RLIMIT_NOFILE) to %llu",
             (unsigned)sessions, (unsigned long long)wanted);
    return sessions;
}
