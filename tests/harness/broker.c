/* SPDX-License-Identifier: MIT */
#include "tests/harness/broker.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/attack.h"

#define START_TRIES 1000 /* of 10 ms */

bool are_we_root(void)
{
    return geteuid() == 0;
}

void become(uid_t uid)
{
    if (!are_we_root())
        return;
    if (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
        ck_abort_msg("taking uid %u: %s", (unsigned)uid, strerror(errno));
    /* As any program has it that was started by that user. */
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

void skip(const char *why)
{
    char how[256];

    (void)snprintf(how, sizeof how, "not tried: %s", why);
    attack_met(how);
    (void)printf("skipped: %s\n", why);
    (void)fflush(stdout);
    exit(0);
}

void broker_copy_program(const char *from, const char *to)
{
    char block[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    ssize_t got;

    if (in < 0 || out < 0)
        ck_abort_msg("copying %s to %s: %s", from, to, strerror(errno));
    while ((got = read(in, block, sizeof block)) > 0)
        ck_assert_int_eq(write(out, block, (size_t)got), got);
    ck_assert_int_eq(got, 0);
    ck_assert_int_eq(fchmod(out, 0755), 0);
    (void)close(in);
    (void)close(out);
}

static int try_connect(const struct broker *broker)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", broker->socket);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static void run_daemon(const struct broker *broker)
{
    const char *const arguments[] = {broker->program, "--socket",     broker->socket,
                                     "--config",      broker->config, NULL};
    int log = open(broker->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    (void)dup2(log, STDERR_FILENO);
    become(broker->uid);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* a test that dies leaves nothing behind */
    (void)execv(broker->program, (char *const *)(uintptr_t)arguments);
    _exit(127);
}

void broker_prepare(struct broker *broker, uid_t uid, const char *config)
{
    const char *program = getenv("JITBROKER_DAEMON");
    const char *ring = getenv("JITBROKER_TEST_RING");
    FILE *file;

    ck_assert_msg(program != NULL, "JITBROKER_DAEMON must name the daemon; ctest sets it");
    *broker = (struct broker){.uid = uid};
    (void)strcpy(broker->folder, "/tmp/jitbroker-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(broker->folder));
    (void)chmod(broker->folder, 0755);
    (void)snprintf(broker->program, sizeof broker->program, "%s/jitbrokerd", broker->folder);
    (void)snprintf(broker->socket, sizeof broker->socket, "%s/socket", broker->folder);
    (void)snprintf(broker->log, sizeof broker->log, "%s/log", broker->folder);
    (void)snprintf(broker->config, sizeof broker->config, "%s/jitbrokerd.conf", broker->folder);
    broker_copy_program(program, broker->program);
    file = fopen(broker->config, "we");
    ck_assert_ptr_nonnull(file);
    (void)fputs(config != NULL ? config : "", file);
    if (config == NULL || strstr(config, "[class ") == NULL)
        (void)fputs("\n[class default]\n", file); /* or nobody is served */
    if (ring != NULL)
        (void)fprintf(file, "[class default]\nring=%s\n", ring);
    (void)fclose(file);
    if (are_we_root())
        ck_assert_int_eq(chown(broker->folder, uid, uid), 0);
}

/* Calls `visit` with the path of each open descriptor of the daemon. False where it can't be seen. */
static bool each_fd(const struct broker *broker, void (*visit)(const char *path, long *sum), long *sum)
{
    char path[320];
    DIR *folder;
    struct dirent *entry;

    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)broker->pid);
    folder = opendir(path);
    if (folder == NULL)
        return false;
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof path, "/proc/%d/fd/%s", (int)broker->pid, entry->d_name);
        visit(path, sum);
    }
    (void)closedir(folder);
    return true;
}

static void count_pidfd(const char *path, long *sum)
{
    char target[256] = "";

    *sum += readlink(path, target, sizeof target - 1) > 0 && strstr(target, "pidfd") != NULL;
}

/* Until nothing is left of the connection: who counts the daemon's descriptors counts no other than its own.
 * The peer's pidfd is closed last. */
static void leave(const struct broker *broker, int fd)
{
    char byte;
    long pidfds;

    (void)shutdown(fd, SHUT_WR);
    while (recv(fd, &byte, sizeof byte, 0) > 0)
        continue;
    (void)close(fd);
    do {
        pidfds = 0;
    } while (each_fd(broker, count_pidfd, &pidfds) && pidfds > 0);
}

void broker_start_as(struct broker *broker, uid_t uid, const char *config)
{
    broker_prepare(broker, uid, config);
    broker->pid = fork();
    ck_assert_int_ge(broker->pid, 0);
    if (broker->pid == 0)
        run_daemon(broker);
    for (int i = 0; i < START_TRIES; i++) {
        int fd = try_connect(broker);
        int status;

        if (fd >= 0) {
            leave(broker, fd);
            return;
        }
        if (waitpid(broker->pid, &status, WNOHANG) == broker->pid)
            ck_abort_msg("the daemon ended at once, with status %x; see %s", (unsigned)status, broker->log);
        (void)usleep(10000);
    }
    ck_abort_msg("the daemon did not open %s", broker->socket);
}

void broker_start(struct broker *broker, const char *config)
{
    broker_start_as(broker, are_we_root() ? BROKER_UID : getuid(), config);
}

static void show_log(const struct broker *broker)
{
    FILE *file = fopen(broker->log, "re");
    char line[1024];

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        (void)fprintf(stderr, "daemon: %s", line);
    if (file != NULL)
        (void)fclose(file);
}

void broker_stop(struct broker *broker)
{
    int status = 0;

    if (broker->pid > 0) {
        /* First, where a test that failed had stopped it: later it would disturb the leak checker's ptrace.
         */
        (void)kill(broker->pid, SIGCONT);
        (void)kill(broker->pid, SIGTERM);
        ck_assert_int_eq(waitpid(broker->pid, &status, 0), broker->pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            show_log(broker);
    }
    (void)unlink(broker->program);
    (void)unlink(broker->socket);
    (void)unlink(broker->log);
    (void)unlink(broker->config);
    (void)rmdir(broker->folder);
    broker->pid = 0;
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the daemon ended with status %x",
                  (unsigned)status);
}

void broker_kill(struct broker *broker)
{
    (void)kill(broker->pid, SIGKILL);
    ck_assert_int_eq(waitpid(broker->pid, NULL, 0), broker->pid);
    broker->pid = 0;
}

jitc_options broker_options(const struct broker *broker)
{
    jitc_options options;

    jitc_options_init(&options);
    options.socket = broker->socket;
    options.timeout_ms = 60000; /* no test waits for it: only a slow machine does */
    return options;
}

jitc_client *broker_connect(const struct broker *broker, const jitc_options *options)
{
    jitc_options defaults = broker_options(broker);
    jitc_client *client = NULL;
    int status = jitc_connect(&client, options != NULL ? options : &defaults);

    ck_assert_msg(status == JITC_OK, "connecting: %s: %s", jitc_strerror(status), jitc_error_detail());
    return client;
}

int broker_socket(const struct broker *broker)
{
    int fd = try_connect(broker);

    ck_assert_msg(fd >= 0, "connecting to %s: %s", broker->socket, strerror(errno));
    return fd;
}

unsigned broker_log_count(const struct broker *broker, const char *text)
{
    FILE *file = fopen(broker->log, "re");
    char line[1024];
    unsigned count = 0;

    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file) != NULL)
        count += strstr(line, text) != NULL;
    (void)fclose(file);
    return count;
}

static void count_fd(const char *path, long *sum)
{
    (void)path;
    ++*sum;
}

static void add_memfd(const char *path, long *sum)
{
    char target[256];
    ssize_t length = readlink(path, target, sizeof target - 1);
    struct stat status;

    if (length <= 0)
        return;
    target[length] = '\0';
    if (strstr(target, "memfd:") != NULL && stat(path, &status) == 0)
        *sum += (long)status.st_blocks * 512;
}

long broker_fds(const struct broker *broker)
{
    long sum = 0;

    return each_fd(broker, count_fd, &sum) ? sum : -1;
}

long broker_shared_bytes(const struct broker *broker)
{
    long sum = 0;

    return each_fd(broker, add_memfd, &sum) ? sum : -1;
}

long broker_memory_bytes(const struct broker *broker, const char *name)
{
    char path[32];
    char line[256];
    size_t length = strlen(name);
    long kib = -1;
    FILE *status;

    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)broker->pid);
    status = fopen(path, "re");
    ck_assert_ptr_nonnull(status);
    while (fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, name, length) == 0 && line[length] == ':')
            kib = strtol(line + length + 1, NULL, 10);
    }
    (void)fclose(status);
    return kib * 1024;
}
