/* SPDX-License-Identifier: MIT */
#include "tests/harness/attack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness/broker.h"

static int records = -1;
static const char *row;
static char test[128];
static bool is_a_workers;

/* Before the program forks and becomes somebody who could not open it. What an earlier run noted goes. */
__attribute__((constructor)) static void open_records(void)
{
    const char *folder = getenv("JITBROKER_ATTACKS");
    char path[4096];

    if (folder == NULL)
        return;
    (void)snprintf(path, sizeof path, "%s/%s%s", folder, program_invocation_short_name,
                   getenv("JITBROKER_TEST_RING") != NULL ? "_by_socket" : "");
    records = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (records < 0)
        (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
}

void attack_begin(const char *the_row, const char *function)
{
    size_t length = strlen(function);

    row = the_row;
    /* As Check calls a test's function. */
    if (length > 3 && strcmp(function + length - 3, "_fn") == 0)
        length -= 3;
    (void)snprintf(test, sizeof test, "%.*s", (int)length, function);
}

void attack_is_a_workers(void)
{
    is_a_workers = true;
}

static const char *name_attacker(void)
{
    uid_t uid = geteuid();

    if (is_a_workers || (uid != 0 && uid != BROKER_UID))
        return "worker";
    return uid == 0 ? "root" : "daemon";
}

void attack_met(const char *how)
{
    static char last[512];
    char line[512];

    if (row == NULL || records < 0)
        return;
    (void)snprintf(line, sizeof line, "%s|%s|%s|%s: %s\n", row, name_attacker(), how,
                   program_invocation_short_name, test);
    if (strcmp(line, last) == 0)
        return;
    memcpy(last, line, sizeof last);
    /* Nothing depends on it here; summary.sh says what is missing. */
    (void)!write(records, line, strlen(line));
}

void attack_met_errno(int error)
{
    const char *name = strerrorname_np(error);

    attack_met(name != NULL ? name : strerror(error));
}

void attack_met_signal(int number)
{
    char how[32];

    (void)snprintf(how, sizeof how, "SIG%s", sigabbrev_np(number));
    attack_met(how);
}

void attack_met_status(int status)
{
    attack_met(jitc_strerror(status));
}
