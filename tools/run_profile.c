/* SPDX-License-Identifier: MIT */
/*
 * The library's lockdown, as a program can have it that loads libraries, starts others, and was not made for
 * it. Without the filter nothing works, since what the program asks for would just be refused. All else that
 * this kernel lacks is told, and one level goes on without it, and the other does not.
 */
#include "tools/run_profile.h"

#include <errno.h>
#include <linux/capability.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <jitclient.h>

#include "tools/run.h"

/* In Linux's headers since 5.8. */
#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF 39
#endif

#define PARTS \
    (JITC_LOCKDOWN_NO_NEW_PRIVS | JITC_LOCKDOWN_MDWE | JITC_LOCKDOWN_LANDLOCK | JITC_LOCKDOWN_SECCOMP)
#define HOW (JITC_LOCKDOWN_ALLOW_EXEC | JITC_LOCKDOWN_ALLOW_LIBRARIES | JITC_LOCKDOWN_TRAP)

/* Each leads to memory of any process through the kernel: mounts, modules, devices, tracing. */
static const unsigned ways_around[] = {
    CAP_SYS_ADMIN, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_PTRACE,
    CAP_SYS_BOOT,  CAP_MAC_ADMIN,  CAP_PERFMON,   CAP_BPF,
};

static const char *const names[] = {
    [RUN_PROFILE_NONE] = "none",
    [RUN_PROFILE_STANDARD] = "standard",
    [RUN_PROFILE_STRICT] = "strict",
};

bool run_profile_by_name(const char *name, enum run_profile *profile)
{
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *profile = (enum run_profile)i;
            return true;
        }
    }
    return false;
}

/* Out of all sets, the bounding set first: else root would get them back by the execve. */
static int drop_ways_around(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    bool holds_any = false;

    if (syscall(SYS_capget, &header, sets) != 0)
        return run_fail(EXIT_LAUNCHER, "capabilities: %s", strerror(errno));
    for (size_t i = 0; i < sizeof ways_around / sizeof ways_around[0]; i++) {
        unsigned capability = ways_around[i];
        uint32_t bit = UINT32_C(1) << capability % 32;
        struct __user_cap_data_struct *set = &sets[capability / 32];

        /* EPERM: who may not has none either, and gets none since there are no new privileges. */
        if (prctl(PR_CAPBSET_DROP, (unsigned long)capability, 0UL, 0UL, 0UL) != 0 && errno != EINVAL &&
            errno != EPERM)
            return run_fail(EXIT_LAUNCHER, "capabilities: %s", strerror(errno));
        holds_any = holds_any || ((set->effective | set->permitted | set->inheritable) & bit) != 0;
        set->effective &= ~bit;
        set->permitted &= ~bit;
        set->inheritable &= ~bit;
    }
    /* Who holds none is not refused what a service's filter may refuse: to ask for it. */
    if (holds_any && syscall(SYS_capset, &header, sets) != 0) /* takes them out of the ambient set as well */
        return run_fail(EXIT_LAUNCHER, "capabilities: %s", strerror(errno));
    return 0;
}

int run_profile_apply(enum run_profile profile)
{
    uint32_t missing;

    if (profile == RUN_PROFILE_NONE)
        return 0;
    if (profile == RUN_PROFILE_STRICT && drop_ways_around() != 0)
        return EXIT_LAUNCHER;
    missing = jitc_lockdown(PARTS | HOW);
    if ((missing & JITC_LOCKDOWN_SECCOMP) != 0)
        return run_fail(EXIT_LAUNCHER,
                        "%s: without the filter no call can be served; --profile none does without",
                        jitc_error_detail());
    if (missing != 0 && profile == RUN_PROFILE_STRICT)
        return run_fail(EXIT_LAUNCHER, "%s: not started; --profile standard goes on without",
                        jitc_error_detail());
    if (missing != 0)
        run_warn("%s: going on without", jitc_error_detail());
    return 0;
}
