/* SPDX-License-Identifier: MIT */
#include "tests/integration/subject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jitclient.h"
#include "tests/integration/escapes.h"

#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

#define NOBODY 65534

/* LeakSanitizer looks for leaks with ptrace, which the lockdown denies, and takes that ill. */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

bool become_user(int which)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    if (which == 0)
        return true;
    if (geteuid() != 0)
        return false; /* has run as this user already */
    ck_assert_int_eq(setresgid(NOBODY, NOBODY, NOBODY), 0);
    ck_assert_int_eq(setresuid(NOBODY, NOBODY, NOBODY), 0);
    /* Else /proc/self is root's, and refuses for a reason that is not the lockdown. */
    ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1UL, 0UL, 0UL, 0UL), 0);
    return true;
}

int kernel_landlock_abi(void)
{
    return (int)syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
}

uint32_t kernel_lacks(void)
{
    uint32_t lacks = 0;
    if (prctl(PR_GET_MDWE, 0UL, 0UL, 0UL, 0UL) < 0)
        lacks |= JITC_LOCKDOWN_MDWE;
    if (syscall(SYS_mseal, NULL, (size_t)0, 0UL) < 0)
        lacks |= JITC_LOCKDOWN_SEAL_ARENAS;
    if (kernel_landlock_abi() < 1)
        lacks |= JITC_LOCKDOWN_LANDLOCK;
    return lacks;
}

void lock_down(uint32_t flags)
{
    uint32_t lacks = kernel_lacks() & (flags ? flags : JITC_LOCKDOWN_ALL);
    uint32_t missing = jitc_lockdown(flags);
    ck_assert_msg(missing == lacks, "missing 0x%x, the kernel lacks 0x%x: %s", missing, lacks,
                  jitc_error_detail());
    if (lacks)
        printf("skipped in part: this kernel lacks 0x%x: %s\n", lacks, jitc_error_detail());
}

int in_child(int (*attack)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_DUMPABLE, 1UL, 0UL, 0UL, 0UL);
        _exit(attack());
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        abort();
    return WIFSIGNALED(status) ? KILLED_BY(WTERMSIG(status)) : WEXITSTATUS(status);
}

int open_under(const char *directory, const char *name, int flags)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, flags | O_CLOEXEC, 0600);
    int r = result(fd >= 0);
    if (fd >= 0)
        close(fd);
    return r;
}

void make_directory_under(const char *directory, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    ck_assert_int_eq(mkdir(path, 0700), 0);
}

static int has_threads_of_its_own(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;
    while (tasks && readdir(tasks))
        count++;
    return count > 3; /* ., .. and this one */
}

bool has_thread_out_of_reach(void)
{
    if (!in_child(has_threads_of_its_own) || kernel_landlock_abi() >= LANDLOCK_ABI_TSYNC)
        return false;
    printf(
        "skipped: ThreadSanitizer gives every child a thread, which Landlock can't reach on this kernel\n");
    return true;
}
