/* SPDX-License-Identifier: MIT */
#include "tests/harness/supervised.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void run_supervisor(const struct broker *broker)
{
    const char *const arguments[] = {broker->program, "--supervise",  "--socket", broker->socket,
                                     "--config",      broker->config, NULL};
    int log = open(broker->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    (void)dup2(log, STDERR_FILENO);
    become(broker->uid);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0); /* a test that dies leaves neither of the two behind */
    (void)execv(getenv("JITBROKER_DAEMON_COPY"), (char *const *)(uintptr_t)arguments);
    _exit(127);
}

void supervised_start(struct broker *broker, const char *program, const char *config)
{
    char daemon[160];
    char notify[160];

    broker_prepare(broker, are_we_root() ? BROKER_UID : getuid(), config);
    /* Where the program is not jitbrokerd, the supervisor still is. */
    (void)snprintf(daemon, sizeof daemon, "%s", broker->program);
    if (program != NULL) {
        (void)snprintf(daemon, sizeof daemon, "%s/supervisor", broker->folder);
        ck_assert_int_eq(rename(broker->program, daemon), 0);
        broker_copy_program(program, broker->program);
    }
    (void)setenv("JITBROKER_DAEMON_COPY", daemon, 1);
    broker->pid = fork();
    ck_assert_int_ge(broker->pid, 0);
    if (broker->pid == 0)
        run_supervisor(broker);
    /* It comes when the other one is listened on. */
    (void)snprintf(notify, sizeof notify, "%s.notify", broker->socket);
    while (access(notify, F_OK) != 0) {
        ck_assert_msg(waitpid(broker->pid, NULL, WNOHANG) == 0, "the supervisor ended at once; see %s",
                      broker->log);
        (void)usleep(1000);
    }
}

pid_t supervised_daemon(const struct broker *broker)
{
    char path[64];
    FILE *file;
    int pid = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)broker->pid, (int)broker->pid);
    file = fopen(path, "re");
    ck_assert_msg(file != NULL, "%s is not there: a kernel without CONFIG_PROC_CHILDREN", path);
    if (fscanf(file, "%d", &pid) != 1)
        pid = 0;
    (void)fclose(file);
    return pid;
}

pid_t supervised_await_daemon(const struct broker *broker, pid_t other)
{
    pid_t pid;

    while ((pid = supervised_daemon(broker)) == 0 || pid == other)
        (void)usleep(200);
    return pid;
}

void supervised_configure(const struct broker *broker, const char *config)
{
    FILE *file = fopen(broker->config, "we");

    ck_assert_ptr_nonnull(file);
    (void)fputs(config, file);
    (void)fclose(file);
}
