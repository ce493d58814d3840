/* SPDX-License-Identifier: MIT */
#include "daemon/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/log.h"
#include "proto/huge_page.h"
#include "proto/ring.h"

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

/* The program, its libraries, and a few threads with their stacks and heaps. */
#define ADDRESSES_OTHER (UINT64_C(1) << 30)
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

/*
 * Capabilities are what root has; a daemon of another user has none, and can't even take any out of
 * the bounding set. Three system calls, for which libcap would be one more library in here. Not made
 * where there is nothing to drop: the unit's filter has no capset.
 */
static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {0}; /* valgrind sees but one filled in */

    if (syscall(SYS_capget, &header, sets) == 0 && (sets[0].permitted | sets[1].permitted) == 0 &&
        (sets[0].inheritable | sets[1].inheritable) == 0)
        return;
    /* First, while it is still allowed. What is not in the bounding set comes back by no execve. */
    for (unsigned long capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; capability++)
        continue;
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    memset(sets, 0, sizeof sets);
    if (syscall(SYS_capset, &header, sets) != 0)
        log_line(LOG_WARNING, "capabilities: %s", strerror(errno));
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
    drop_capabilities();
    (void)setrlimit(RLIMIT_CORE, &no_core);
#ifndef HAS_LEAK_CHECKER
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        log_line(LOG_WARNING, "dumpable: %s", strerror(errno));
#endif
}

uint64_t process_raise_fds(uint64_t wanted)
{
    rlim_t needed = wanted + PROCESS_FDS_OTHER;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return wanted;
    if (limit.rlim_cur < needed) {
        limit.rlim_cur = needed < limit.rlim_max ? needed : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            log_line(LOG_WARNING, "RLIMIT_NOFILE: %s", strerror(errno));
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur >= needed)
        return wanted;
    log_line(LOG_WARNING, "fewer descriptors than sessions_max= needs: %llu; raise LimitNOFILE= to %llu",
             (unsigned long long)limit.rlim_cur, (unsigned long long)needed);
    return limit.rlim_cur > PROCESS_FDS_OTHER ? limit.rlim_cur - PROCESS_FDS_OTHER : 0;
}

void process_bound_addresses(uint32_t sessions, uint64_t arena_max_bytes, uint64_t adopted_bytes)
{
#ifndef JITBROKER_INSTRUMENTED
    /* An eighth: where its spans are. Huge pages: an arena begins at one. The rest: buffers. */
    uint64_t session = arena_max_bytes + arena_max_bytes / 8 + HUGE_PAGE_BYTES + 2 * (uint64_t)RING_BYTES;
    struct rlimit limit;
    rlim_t wanted;

    if (__builtin_mul_overflow(session, sessions, &session) ||
        __builtin_add_overflow(session, ADDRESSES_OTHER + adopted_bytes + adopted_bytes / 8, &wanted))
        return;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur >= wanted))
        return;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        log_line(LOG_WARNING, "RLIMIT_AS: %s", strerror(errno));
#else
    (void)sessions, (void)arena_max_bytes, (void)adopted_bytes;
#endif
}
