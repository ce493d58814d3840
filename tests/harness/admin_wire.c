/* SPDX-License-Identifier: MIT */
#include "tests/harness/admin_wire.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/record.h"

#define CANNOT_MOUNT 126

/* For this process alone. */
static void have_group(const struct admin_daemon *daemon)
{
    if (!are_we_root())
        return;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(daemon->groups, "/etc/group", NULL, MS_BIND, NULL) != 0)
        _exit(CANNOT_MOUNT);
}

static void run(const struct admin_daemon *daemon)
{
    const struct broker *broker = &daemon->broker;
    const char *const arguments[] = {broker->program, "--socket", broker->socket, "--config",
                                     broker->config,  "--admin",  daemon->socket, NULL};
    int log = open(broker->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    (void)dup2(log, STDERR_FILENO);
    have_group(daemon);
    become(broker->uid);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)execv(broker->program, (char *const *)(uintptr_t)arguments);
    _exit(127);
}

static int try_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

bool admin_daemon_start(struct admin_daemon *daemon, const char *config)
{
    struct broker *broker = &daemon->broker;
    FILE *file;
    int status;
    int fd;

    broker_prepare(broker, are_we_root() ? BROKER_UID : getuid(), config);
    (void)snprintf(daemon->socket, sizeof daemon->socket, "%s/admin", broker->folder);
    (void)snprintf(daemon->groups, sizeof daemon->groups, "%s/group", broker->folder);
    file = fopen(daemon->groups, "we");
    ck_assert_ptr_nonnull(file);
    (void)fprintf(file, "root:x:0:\njitbroker-admin:x:%u:somebody\nother:x:64951:\n", ADMIN_WIRE_GROUP);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(chmod(daemon->groups, 0644), 0);
    broker->pid = fork();
    ck_assert_int_ge(broker->pid, 0);
    if (broker->pid == 0)
        run(daemon);
    while ((fd = try_connect(daemon->socket)) < 0) {
        if (waitpid(broker->pid, &status, WNOHANG) == broker->pid) {
            broker->pid = 0;
            ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_MOUNT,
                          "the daemon ended at once, with status %x; see %s", (unsigned)status, broker->log);
            admin_daemon_stop(daemon);
            return false;
        }
        (void)usleep(1000);
    }
    (void)close(fd);
    ck_assert_int_eq(chmod(daemon->socket, 0666), 0);
    return true;
}

void admin_daemon_start_or_skip(struct admin_daemon *daemon, const char *config)
{
    if (admin_daemon_start(daemon, config))
        return;
    (void)printf("skipped: no mount namespace for a group of the test's own\n");
    (void)fflush(stdout);
    exit(0);
}

void admin_daemon_stop(struct admin_daemon *daemon)
{
    (void)unlink(daemon->groups);
    broker_stop(&daemon->broker);
}

/* In a child, which is of that user; the connection comes back by `way`. */
static void connect_and_pass(const struct admin_daemon *daemon, uid_t uid, gid_t group, int way)
{
    int fd;

    if (are_we_root() && (setgroups(group != 0, &group) != 0 || setresgid(uid, uid, uid) != 0 ||
                          setresuid(uid, uid, uid) != 0))
        _exit(1);
    fd = try_connect(daemon->socket);
    _exit(fd < 0 || record_send(way, true, "", 1, &fd, 1) != 0);
}

int admin_connect_as(const struct admin_daemon *daemon, uid_t uid, gid_t group)
{
    struct record record;
    int ways[2];
    char byte;
    pid_t pid;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ways), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        connect_and_pass(daemon, uid, group, ways[1]);
    (void)close(ways[1]);
    ck_assert_int_eq(record_recv(ways[0], true, &byte, 1, 1, &record), RECORD_WHOLE);
    ck_assert_uint_eq(record.fds_count, 1);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    (void)close(ways[0]);
    return record.fds[0];
}

int admin_connect(const struct admin_daemon *daemon)
{
    int fd = try_connect(daemon->socket);

    ck_assert_msg(fd >= 0, "connecting to %s: %s", daemon->socket, strerror(errno));
    return fd;
}

void admin_send(int fd, Admin__Verb verb, uint64_t session, uint64_t offset, uint32_t level)
{
    static uint64_t id;
    uint8_t bytes[ADMIN_REQUEST_MAX_BYTES];
    Admin__Request request = ADMIN__REQUEST__INIT;

    request.id = ++id;
    request.verb = verb;
    request.session = session;
    request.offset = offset;
    request.level = level;
    ck_assert_uint_le(admin__request__get_packed_size(&request), sizeof bytes);
    ck_assert_int_eq(record_send(fd, true, bytes, admin__request__pack(&request, bytes), NULL, 0), 0);
}

Admin__Reply *admin_receive(int fd)
{
    static uint8_t bytes[ADMIN_REPLY_MAX_BYTES];
    Admin__Reply *reply;
    struct record record;
    int flaw;

    do {
        flaw = record_recv(fd, true, bytes, sizeof bytes, 0, &record);
    } while (flaw == -EINTR || flaw == -ECONNRESET);
    if (flaw == RECORD_E_END)
        return NULL;
    ck_assert_int_eq(flaw, RECORD_WHOLE);
    reply = admin__reply__unpack(NULL, record.bytes, bytes);
    ck_assert_ptr_nonnull(reply);
    ck_assert_uint_eq(reply->base.n_unknown_fields, 0);
    return reply;
}

Admin__Reply *admin_ask(int fd, Admin__Verb verb, uint64_t session, uint64_t offset, uint32_t level)
{
    Admin__Reply *reply;

    admin_send(fd, verb, session, offset, level);
    reply = admin_receive(fd);
    ck_assert_msg(reply != NULL, "verb %d: the connection has ended", (int)verb);
    ck_assert_msg(reply->error == NULL, "verb %d: %s", (int)verb, reply->error->text);
    ck_assert(!reply->more);
    return reply;
}

static void assert_error(const Admin__Reply *reply, Admin__Code code, const char *part)
{
    ck_assert_ptr_nonnull(reply);
    ck_assert_ptr_nonnull(reply->error);
    ck_assert_msg(reply->error->code == code && strstr(reply->error->text, part) != NULL, "said %d: %s",
                  (int)reply->error->code, reply->error->text);
    ck_assert(!reply->more);
}

void admin_expect(int fd, Admin__Verb verb, uint64_t session, uint64_t offset, uint32_t level,
                  Admin__Code code, const char *part)
{
    Admin__Reply *reply;

    admin_send(fd, verb, session, offset, level);
    reply = admin_receive(fd);
    assert_error(reply, code, part);
    ck_assert_uint_ne(reply->id, 0);
    admin__reply__free_unpacked(reply, NULL);
}

void admin_expect_goodbye(int fd, Admin__Code code, const char *part)
{
    Admin__Reply *reply = admin_receive(fd);

    assert_error(reply, code, part);
    ck_assert_uint_eq(reply->id, 0);
    admin__reply__free_unpacked(reply, NULL);
    ck_assert_ptr_null(admin_receive(fd));
}

bool admin_is_served(int fd)
{
    Admin__Reply *reply = admin_ask(fd, ADMIN__VERB__STATUS, 0, 0, 0);
    bool is = reply->status != NULL;

    admin__reply__free_unpacked(reply, NULL);
    return is;
}

uint64_t admin_session_of(jitc_client *client)
{
    jitc_info info = {.struct_size = sizeof info};

    ck_assert_int_eq(jitc_describe(client, &info), JITC_OK);
    return info.session;
}

uint64_t admin_offset_of(jitc_client *client, const jitc_span *span)
{
    jitc_info info = {.struct_size = sizeof info};

    ck_assert_int_eq(jitc_describe(client, &info), JITC_OK);
    return (uint64_t)((const uint8_t *)span->rx - (const uint8_t *)info.base);
}
