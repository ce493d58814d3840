/* SPDX-License-Identifier: MIT */
#include "daemon/executor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/admission.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "proto/record.h"

static enum status check_policy(const struct connection *owner, struct result *refusal)
{
    const struct class *class = owner->class;

    if (class->executor_max == 0)
        return result_refuse(refusal, STATUS_REFUSED, "open_executor",
                             "the policy's class %s gets no executors", class->name);
    if (owner->session->refs - 1 >= class->executor_max)
        return result_refuse(refusal, STATUS_QUOTA_SESSIONS, "open_executor",
                             "the session has its %" PRIu32 " executors", class->executor_max);
    return STATUS_OK;
}

/* The daemon's side of a new socketpair is executor->fd, and watched; the other one is *fd. 0 or -errno. */
static int make_socket(struct connection *executor, int *fd)
{
    int sockets[2];
    int error;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        return -errno;
    executor->fd = sockets[0];
    error = connection_start(executor);
    if (error != 0) {
        (void)close(sockets[0]);
        (void)close(sockets[1]);
        return error;
    }
    *fd = sockets[1];
    return 0;
}

void executor_store_name(const struct connection *executor, char *name)
{
    (void)snprintf(name, STORE_NAME_MAX_BYTES, "executor-%" PRIu64 "-%" PRIu64, executor->session->id,
                   executor->number);
}

/* The client's side goes with the reply; if that is lost, nobody holds it, and the end ends. */
static void store_executor(struct connection *executor)
{
    char name[STORE_NAME_MAX_BYTES + 1];
    int error;

    executor_store_name(executor, name);
    store_pace(&executor->server->store, executor->peer.uid, uv_hrtime());
    error = store_add(&executor->server->store, name, &executor->fd, 1);
    LEDGER_STEP();
    executor->is_stored = error == 0;
    if (error != 0)
        log_client(LOG_WARNING, "session %" PRIu64 ": the service manager does not keep an executor: %s",
                   executor->session->id, strerror(-error));
}

static enum status make_end(const struct connection *owner, int *fd, struct result *refusal)
{
    struct connection *executor = calloc(1, sizeof *executor);
    int error;

    if (executor == NULL)
        return result_refuse(refusal, STATUS_NO_MEMORY, "", "the daemon has no memory for an executor");
    executor->server = owner->server;
    executor->is_executor = true;
    executor->policy = policy_ref(owner->policy);
    executor->class = owner->class;
    executor->peer = (struct peer){.uid = owner->peer.uid, .pid = owner->peer.pid};
    if (admission_charge(executor, refusal) != STATUS_OK) {
        (void)connection_discard(executor);
        return refusal->status;
    }
    error = make_socket(executor, fd);
    if (error != 0) {
        (void)connection_discard(executor);
        return result_refuse(refusal, STATUS_NO_MEMORY, "", "the daemon has no socket for an executor: %s",
                             strerror(-error));
    }
    executor->session = session_ref(owner->session);
    executor->number = ++owner->server->executors_started;
    store_executor(executor);
    return STATUS_OK;
}

enum status executor_open(struct connection *owner, const struct buffer *reply, struct result *refusal)
{
    int sent;
    int fd = -1;

    if (owner->is_executor)
        return executor_refuse(refusal, "open_executor");
    if (record_is_unread(owner->fd) && !owner->repeated)
        return result_refuse(refusal, STATUS_PROTOCOL, "open_executor",
                             "it is asked for when all earlier replies have been read");
    if (check_policy(owner, refusal) != STATUS_OK || make_end(owner, &fd, refusal) != STATUS_OK)
        return refusal->status;
    owner->repeated = false;
    sent = record_send(owner->fd, false, reply->bytes, reply->used, &fd, 1);
    (void)close(fd); /* where it was not sent, nobody holds it, and the end ends */
    if (sent != 0)
        return result_refuse(refusal, STATUS_NO_MEMORY, "", "the executor's socket can't be handed over: %s",
                             strerror(-sent));
    return STATUS_OK;
}

enum status executor_refuse(struct result *refusal, const char *what)
{
    return result_refuse(refusal, STATUS_REFUSED, "", "an executor only runs and queries: %s is its owner's",
                         what);
}

enum status executor_welcome(struct connection *executor, const struct hello *hello, struct welcome *welcome,
                             struct result *refusal)
{
    const struct session *session = executor->session;
    struct log_subject subject = connection_subject(executor);

    if (hello_validate_executor(hello, refusal) != STATUS_OK)
        return refusal->status;
    session_describe(session, welcome);
    welcome->features = session->arena.is_huge ? hello->features & FEATURE_LARGE_PAGES : 0;
    welcome->write_mode = WRITE_THROUGH; /* whatever its owner has: nothing is written from here */
    welcome->executor = true;
    log_event(LOG_EXECUTOR_STARTED, &subject, NULL, "%s", "");
    return STATUS_OK;
}

void executor_end_all(struct connection *owner)
{
    struct connection *next;

    for (struct connection *at = owner->server->connections; at != NULL; at = next) {
        next = at->next;
        if (at->is_executor && at->session == owner->session)
            connection_end(at, STATUS_REFUSED,
                           "the session's owner is gone, and the policy lets no orphans run");
    }
}
