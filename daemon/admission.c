/* SPDX-License-Identifier: MIT */
#include "daemon/admission.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/server.h"

/* Says which of two bounds the user has met. */
static enum status refuse_session(const struct connection *connection, struct result *refusal)
{
    const struct pool *pools = connection->server->quota.pools;
    unsigned uid = (unsigned)connection->peer.uid;

    if (connection->charge.amount != 0)
        return result_refuse(refusal, STATUS_QUOTA_SESSIONS, "",
                             "uid %u would hold more than its share of the daemon's %" PRIu64
                             " descriptors: raise its LimitNOFILE=",
                             uid, pools[QUOTA_FDS].total);
    if (!charge_exceeds_share(&connection->charge, 1, connection->class->session_max))
        return result_refuse(refusal, STATUS_QUOTA_SESSIONS, "", "uid %u holds its %" PRIu32 " sessions", uid,
                             connection->class->session_max);
    if (pools[QUOTA_SESSIONS].held >= pools[QUOTA_SESSIONS].total)
        return result_refuse(refusal, STATUS_QUOTA_SESSIONS, "", "the daemon serves its %" PRIu64 " sessions",
                             pools[QUOTA_SESSIONS].total);
    return result_refuse(refusal, STATUS_QUOTA_SESSIONS, "",
                         "uid %u would hold more than its share of the daemon's %" PRIu64 " sessions", uid,
                         pools[QUOTA_SESSIONS].total);
}

enum status admission_charge(struct connection *connection, struct result *refusal)
{
    connection->account = quota_account(&connection->server->quota, connection->peer.uid);
    if (connection->account == NULL)
        return result_refuse(refusal, STATUS_NO_MEMORY, "", "the daemon has no memory for a session");
    charge_init(&connection->charge, connection->account, QUOTA_SESSIONS);
    charge_init(&connection->fds, connection->account, QUOTA_FDS);
    charge_init(&connection->queued, connection->account, QUOTA_QUEUED);
    if (!charge_set(&connection->charge, 1, connection->class->session_max) ||
        !charge_set(&connection->fds, connection->is_executor ? EXECUTOR_FDS : CONNECTION_FDS, UINT64_MAX))
        return refuse_session(connection, refusal);
    return STATUS_OK;
}

bool admission_restore(struct connection *connection)
{
    connection->account = quota_account(&connection->server->quota, connection->peer.uid);
    if (connection->account == NULL)
        return false;
    charge_init(&connection->charge, connection->account, QUOTA_SESSIONS);
    charge_init(&connection->fds, connection->account, QUOTA_FDS);
    charge_init(&connection->queued, connection->account, QUOTA_QUEUED);
    charge_restore(&connection->charge, 1);
    charge_restore(&connection->fds, connection->is_executor ? EXECUTOR_FDS : CONNECTION_FDS);
    return true;
}

/* STATUS_OK if the policy serves this peer; then that is charged to it. */
static enum status admit(struct connection *connection, struct result *refusal)
{
    connection->policy = policy_ref(connection->server->policy);
    connection->class = policy_match(connection->policy, &connection->peer);
    if (connection->policy->is_broken)
        return result_refuse(refusal, STATUS_REFUSED, "",
                             "the daemon's policy has a mistake, see its log: nobody new is served");
    if (connection->class == NULL)
        return result_refuse(refusal, STATUS_REFUSED, "",
                             "uid %u%s%s is in no class of the policy, see jitbrokerd.conf(5)",
                             (unsigned)connection->peer.uid, connection->peer.unit[0] != '\0' ? " in " : "",
                             connection->peer.unit);
    if (!connection->class->write_through)
        return result_refuse(refusal, STATUS_REFUSED, "", "the policy's class %s gets no code memory",
                             connection->class->name);
    return admission_charge(connection, refusal);
}

void admission_accept(struct server *server, int fd)
{
    struct connection *connection = calloc(1, sizeof *connection);
    struct result refusal;
    int error;

    result_init(&refusal);
    if (connection == NULL) {
        (void)result_refuse(&refusal, STATUS_NO_MEMORY, "", "the daemon has no memory for a session");
        goto refuse;
    }
    connection->server = server;
    connection->fd = fd;
    error = peer_init(&connection->peer, fd, server->policy->facts);
    if (error != 0) {
        (void)result_refuse(&refusal, STATUS_REFUSED, "", "nobody knows who the peer is: %s",
                            strerror(-error));
        goto refuse;
    }
    if (admit(connection, &refusal) != STATUS_OK)
        goto refuse;
    error = connection_start(connection);
    if (error == 0)
        return;
    (void)result_refuse(&refusal, STATUS_NO_MEMORY, "", "the daemon can't watch the socket: %s",
                        uv_strerror(error));

refuse:
    connection_say_goodbye(fd, refusal.status, refusal.text);
    (void)close(fd);
    if (connection != NULL) {
        log_client(LOG_NOTICE, "connection refused: uid=%u pid=%d reason=\"%s\"",
                   (unsigned)connection->peer.uid, (int)connection->peer.pid, refusal.text);
        (void)connection_discard(connection);
    }
}
