/* SPDX-License-Identifier: MIT */
#include "daemon/admin.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/admin_answer.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "proto/record.h"

/* The one that knows which group it is: no module of the name service's is loaded into the daemon for it. */
#define GROUP_FILE "/etc/group"
#define RETRY_MS 100

struct admin_connection {
    struct admin *admin;
    struct admin_connection *next;
    struct admin_connection *prev;
    uv_poll_t poll;
    uv_timer_t timer; /* while the peer does not read */
    uv_idle_t turn;   /* while there is an answer to be made */
    int fd;
    unsigned handles; /* of libuv's, still to be closed */
    struct peer peer;
    unsigned rights; /* enum admin_right */
    struct admin_answer answer;
    uint64_t id;
    bool has_more;
    struct buffer out; /* in `bytes`: the record that is made, or waits to be sent */
    uint8_t bytes[ADMIN_REPLY_MAX_BYTES];
};

/* ---- Who it is ----------------------------------------------------------------------- */

static bool find_group(gid_t *gid)
{
    FILE *file = fopen(GROUP_FILE, "re");
    const struct group *group = NULL;

    if (file == NULL)
        return false;
    do {
        group = fgetgrent(file);
    } while (group != NULL && strcmp(group->gr_name, ADMIN_GROUP) != 0);
    if (group != NULL)
        *gid = group->gr_gid;
    (void)fclose(file);
    return group != NULL;
}

static bool is_member(const struct peer *peer)
{
    gid_t gid;

    if (!find_group(&gid))
        return false;
    for (size_t i = 0; i < peer->groups_count; i++) {
        if (peer->groups[i] == gid)
            return true;
    }
    return peer->gid == gid;
}

static unsigned rights_of(const struct peer *peer)
{
    if (peer->uid == 0 || peer->uid == geteuid())
        return ADMIN_MAY_READ | ADMIN_MAY_CHANGE;
    return is_member(peer) ? ADMIN_MAY_READ : 0;
}

/* ---- The end ----------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct admin_connection *connection = handle->data;

    if (--connection->handles == 0)
        free(connection);
}

static void end(struct admin_connection *connection)
{
    struct admin *admin = connection->admin;

    if (connection->prev != NULL)
        connection->prev->next = connection->next;
    else
        admin->connections = connection->next;
    if (connection->next != NULL)
        connection->next->prev = connection->prev;
    admin->connections_count--;
    (void)uv_poll_stop(&connection->poll); /* before its descriptor is another's */
    (void)close(connection->fd);
    peer_deinit(&connection->peer);
    uv_close((uv_handle_t *)&connection->poll, on_closed);
    uv_close((uv_handle_t *)&connection->timer, on_closed);
    uv_close((uv_handle_t *)&connection->turn, on_closed);
}

static void put(struct buffer *out, const Admin__Reply *part)
{
    bool fits = admin_put(out, part);

    assert(fits);
    (void)fits;
}

/* Tells somebody who gets no answer why. If it can't be said at once, the closed socket has to say it. */
static void say_goodbye(int fd, Admin__Code code, const char *text)
{
    uint8_t bytes[ADMIN_RESERVE_BYTES];
    struct buffer out = {.bytes = bytes};

    admin_put_error(&out, code, text);
    (void)record_send(fd, false, out.bytes, out.used, NULL, 0);
}

static void end_for(struct admin_connection *connection, const char *reason)
{
    log_event(LOG_ADMIN_REFUSED, &(struct log_subject){.peer = &connection->peer}, reason, "verb=none");
    say_goodbye(connection->fd, ADMIN__CODE__BAD_REQUEST, reason);
    end(connection);
}

/* ---- Answers -------------------------------------------------------------------------------- */

static void on_poll(uv_poll_t *handle, int status, int events);

static void wait_for(struct admin_connection *connection, int events)
{
    int error = uv_poll_start(&connection->poll, events, on_poll);

    assert(error == 0);
    (void)error;
}

static void on_unread(uv_timer_t *timer)
{
    struct admin_connection *connection = timer->data;
    const struct admin_verb *verb = connection->answer.verb; /* NULL: it never asked for one that is there */

    log_event(LOG_ADMIN_REFUSED, &(struct log_subject){.peer = &connection->peer},
              "it does not read its answer", "verb=%s", verb != NULL ? verb->name : "unknown");
    end(connection);
}

static void begin_record(struct admin_connection *connection)
{
    Admin__Reply part = ADMIN__REPLY__INIT;

    connection->out = (struct buffer){.bytes = connection->bytes,
                                      .capacity = sizeof connection->bytes - ADMIN_RESERVE_BYTES};
    part.id = connection->id;
    put(&connection->out, &part);
}

static void on_turn(uv_idle_t *idle);

static void send_record(struct admin_connection *connection)
{
    int error = record_send(connection->fd, false, connection->out.bytes, connection->out.used, NULL, 0);

    if (error == -EAGAIN) {
        wait_for(connection, UV_WRITABLE);
        if (!uv_is_active((uv_handle_t *)&connection->timer))
            (void)uv_timer_start(&connection->timer, on_unread,
                                 connection->admin->server->policy->reply_timeout_ms, 0);
        return;
    }
    if (error != 0) {
        end(connection);
        return;
    }
    (void)uv_timer_stop(&connection->timer);
    connection->out.used = 0;
    if (!connection->has_more) {
        wait_for(connection, UV_READABLE);
        return;
    }
    wait_for(connection, UV_DISCONNECT);
    begin_record(connection);
    (void)uv_idle_start(&connection->turn, on_turn);
}

static void on_turn(uv_idle_t *idle)
{
    struct admin_connection *connection = idle->data;
    struct admin_answer *answer = &connection->answer;
    enum admin_step step = answer->verb->step(answer, &connection->out, uv_hrtime() + ADMIN_STEP_NS);
    Admin__Reply part = ADMIN__REPLY__INIT;

    if (step == ADMIN_STEP_LATER)
        return;
    (void)uv_idle_stop(idle);
    connection->has_more = step == ADMIN_STEP_FULL;
    if (connection->has_more) {
        connection->out.capacity = sizeof connection->bytes;
        part.more = true;
        put(&connection->out, &part);
    }
    send_record(connection);
}

/* The whole answer is that there is none. */
static void refuse(struct admin_connection *connection, Admin__Code code, const char *verb, const char *text)
{
    log_event(LOG_ADMIN_REFUSED, &(struct log_subject){.peer = &connection->peer}, text, "verb=%s", verb);
    admin_put_error(&connection->out, code, text);
    connection->has_more = false;
    send_record(connection);
}

/* ---- Requests ----------------------------------------------------------------------------------- */

static void handle(struct admin_connection *connection, const Admin__Request *request)
{
    const struct admin_verb *verb;
    char reason[128];

    connection->id = request->id;
    begin_record(connection);
    if (!admin_validate(request, reason, sizeof reason)) {
        refuse(connection, ADMIN__CODE__BAD_REQUEST, "unknown", reason);
        return;
    }
    verb = admin_verb((uint32_t)request->verb);
    if ((connection->rights & verb->right) == 0) {
        refuse(connection, ADMIN__CODE__NOT_PERMITTED, verb->name,
               "only root, and the daemon's own user, may change anything");
        return;
    }
    connection->answer = (struct admin_answer){
        .admin = connection->admin,
        .peer = &connection->peer,
        .verb = verb,
        .session = request->session,
        .offset = request->offset,
        .level = request->level,
    };
    wait_for(connection, UV_DISCONNECT);
    (void)uv_idle_start(&connection->turn, on_turn);
}

static void read_request(struct admin_connection *connection)
{
    uint8_t bytes[ADMIN_REQUEST_MAX_BYTES];
    Admin__Request *request = NULL;
    struct record record;
    int flaw = record_recv(connection->fd, false, bytes, sizeof bytes, 0, &record);

    if (flaw == -EAGAIN)
        return;
    if (flaw < 0 || flaw == RECORD_E_END) {
        end(connection);
        return;
    }
    if (flaw == RECORD_WHOLE)
        request = admin__request__unpack(NULL, record.bytes, bytes);
    if (request == NULL || request->id == 0)
        end_for(connection, "the record is no request");
    else
        handle(connection, request);
    if (request != NULL)
        admin__request__free_unpacked(request, NULL);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct admin_connection *connection = handle->data;

    if (status < 0 || (events & (UV_READABLE | UV_WRITABLE)) == 0)
        end(connection);
    else if (connection->out.used > 0)
        send_record(connection);
    else
        read_request(connection);
}

/* ---- Connections ---------------------------------------------------------------------------------- */

/* 0 or -errno; then the descriptor is the caller's still. */
static int begin(struct admin *admin, int fd, const struct peer *peer, unsigned rights)
{
    struct admin_connection *connection = calloc(1, sizeof *connection);
    uv_loop_t *loop = &admin->server->loop;
    int error;

    if (connection == NULL)
        return -ENOMEM;
    error = uv_poll_init(loop, &connection->poll, fd);
    if (error != 0) {
        free(connection);
        return error;
    }
    (void)uv_timer_init(loop, &connection->timer);
    (void)uv_idle_init(loop, &connection->turn);
    connection->poll.data = connection;
    connection->timer.data = connection;
    connection->turn.data = connection;
    connection->handles = 3;
    connection->admin = admin;
    connection->fd = fd;
    connection->peer = *peer;
    connection->rights = rights;
    connection->next = admin->connections;
    if (connection->next != NULL)
        connection->next->prev = connection;
    admin->connections = connection;
    admin->connections_count++;
    wait_for(connection, UV_READABLE);
    return 0;
}

static unsigned connections_max(unsigned rights)
{
    return (rights & ADMIN_MAY_CHANGE) != 0 ? ADMIN_CONNECTIONS_MAX : ADMIN_READERS_MAX;
}

static void serve(struct admin *admin, int fd)
{
    struct peer peer;
    unsigned rights;
    int error = peer_init(&peer, fd, PEER_GROUPS);

    if (error != 0) {
        say_goodbye(fd, ADMIN__CODE__NOT_PERMITTED, "nobody knows who the peer is");
        (void)close(fd);
        return;
    }
    rights = rights_of(&peer);
    if (rights == 0)
        error = -EACCES;
    else if (admin->connections_count >= connections_max(rights))
        error = -EBUSY;
    else
        error = begin(admin, fd, &peer, rights);
    if (error == 0)
        return;
    log_event(LOG_ADMIN_REFUSED, &(struct log_subject){.peer = &peer}, strerror(-error), "verb=connect");
    if (rights == 0)
        say_goodbye(fd, ADMIN__CODE__NOT_PERMITTED,
                    "this is for root, the daemon's own user, and members of the group " ADMIN_GROUP);
    else
        say_goodbye(fd, ADMIN__CODE__BUSY, "the daemon answers as many operators as it can at once");
    peer_deinit(&peer);
    (void)close(fd);
}

static void on_connect(uv_poll_t *handle, int status, int events);

static void on_retry(uv_timer_t *timer)
{
    struct admin *admin = timer->data;

    (void)uv_poll_start(&admin->poll, UV_READABLE, on_connect);
}

static void on_connect(uv_poll_t *handle, int status, int events)
{
    struct admin *admin = handle->data;
    int fd = accept4(admin->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)status, (void)events;
    if (fd >= 0) {
        serve(admin, fd); /* the next one in the next turn */
        return;
    }
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
        return;
    log_client(LOG_ERROR, "accept: %s; trying again in %d ms", strerror(errno), RETRY_MS);
    (void)uv_poll_stop(&admin->poll);
    (void)uv_timer_start(&admin->retry, on_retry, RETRY_MS, 0);
}

int admin_listen(struct admin *admin, struct server *server, int fd)
{
    int error = admin->listens ? -EEXIST : uv_poll_init(&server->loop, &admin->poll, fd);

    if (error != 0) {
        (void)close(fd);
        return error;
    }
    admin->server = server;
    admin->fd = fd;
    admin->listens = true;
    admin->poll.data = admin;
    (void)uv_timer_init(&server->loop, &admin->retry);
    admin->retry.data = admin;
    admin->started_ns = uv_hrtime();
    admin->started_s = (uint64_t)time(NULL);
    return uv_poll_start(&admin->poll, UV_READABLE, on_connect);
}

void admin_stop(struct admin *admin)
{
    if (!admin->listens)
        return;
    admin->listens = false;
    while (admin->connections != NULL)
        end(admin->connections);
    uv_close((uv_handle_t *)&admin->poll, NULL);
    uv_close((uv_handle_t *)&admin->retry, NULL);
    (void)close(admin->fd);
}

void admin_forget(struct admin *admin, const struct connection *connection)
{
    for (struct admin_connection *at = admin->connections; at != NULL; at = at->next) {
        if (at->answer.at == connection)
            at->answer.at = connection->next;
    }
}
