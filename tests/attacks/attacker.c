/* SPDX-License-Identifier: MIT */
#include "tests/attacks/attacker.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void attacker_become(enum attacker attacker, const struct broker *broker)
{
    if (!are_we_root() && attacker != ATTACKER_DAEMON_UID)
        skip("needs root, to be another user than the daemon");
    if (attacker == ATTACKER_WORKER)
        become(WORKER_UID);
    else if (attacker == ATTACKER_DAEMON_UID)
        become(broker->uid);
}

int attempt(int (*attack)(const void *user), const void *user)
{
    int status = 0;
    pid_t pid;

    (void)fflush(NULL);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        /* A sanitizer's handlers would make an exit status of a signal. */
        for (int number = 1; number < NSIG; number++)
            (void)signal(number, SIG_DFL);
        (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
        _exit(attack(user));
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status);
    attack_met_signal(WTERMSIG(status));
    return -WTERMSIG(status);
}

int outcome(long returned)
{
    return returned == -1 ? errno : 0;
}

bool lock_down(uint32_t needed)
{
    uint32_t missing = jitc_lockdown(0);

    if (missing != 0)
        (void)printf("skipped in part: %s\n", jitc_error_detail());
    return (missing & needed) == 0;
}

const char *fd_path(int fd)
{
    static char paths[4][32];
    static unsigned next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, sizeof paths[0], "/proc/self/fd/%d", fd);
    return path;
}
