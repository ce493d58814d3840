/* SPDX-License-Identifier: MIT */
#include "client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "client/call.h"
#include "client/failure.h"
#include "client/fork_guard.h"
#include "client/patience.h"

#define TIMEOUT_DEFAULT_MS 10000u
/* What every caller's struct has; the rest was added behind it. */
#define INFO_0_1_0_BYTES offsetof(jitc_info, is_executor)
#define OPTIONS_0_1_0_BYTES offsetof(jitc_options, fd_min)

const char *jitc_version(void)
{
    return JITBROKER_VERSION;
}

void jitc_options_init(jitc_options *options)
{
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}

int client_check_struct(const char *name, size_t struct_size, size_t needed)
{
    if (struct_size < needed)
        return failure_set(JITC_E_INVALID, "%s.struct_size is %zu: set it to sizeof, which is %zu", name,
                           struct_size, needed);
    return JITC_OK;
}

/* What a later version put behind the fields that we know must not be asked for in vain. */
static bool has_unknown_wishes(const jitc_options *options)
{
    const uint8_t *bytes = (const uint8_t *)options;

    for (size_t i = sizeof *options; i < options->struct_size; i++) {
        if (bytes[i] != 0)
            return true;
    }
    return (options->flags &
            ~(JITC_NEAR_REQUIRED | JITC_IMMEDIATE_RELEASE | JITC_LARGE_PAGES | JITC_FAIL_FAST)) != 0;
}

int client_options(const jitc_options *options, jitc_options *all)
{
    jitc_options_init(all);
    if (options != NULL) {
        if (options->struct_size < OPTIONS_0_1_0_BYTES)
            return failure_set(JITC_E_INVALID, "options.struct_size is %zu: call jitc_options_init() first",
                               options->struct_size);
        if (has_unknown_wishes(options))
            return failure_set(JITC_E_INVALID,
                               "options ask for what libjitclient " JITBROKER_VERSION " does not know");
        memcpy(all, options, options->struct_size < sizeof *all ? options->struct_size : sizeof *all);
        all->struct_size = sizeof *all;
    }
    if (all->timeout_ms == 0)
        all->timeout_ms = TIMEOUT_DEFAULT_MS;
    return JITC_OK;
}

int client_check(const struct jitc_client *client)
{
    if (client == NULL)
        return failure_set(JITC_E_INVALID, "client is NULL");
    if (!fork_guard_is_ours(client->mark))
        return failure_set(JITC_E_FORKED,
                           "this client belongs to the parent process; connect anew in the child");
    return JITC_OK;
}

int client_check_owner(const struct jitc_client *client)
{
    int status = client_check(client);

    if (status == JITC_OK && client->welcome.executor)
        status = failure_set(JITC_E_REFUSED, "this client is an executor, which only runs and queries; "
                                             "its owner has to do it");
    return status;
}

int client_owe(struct jitc_client *client, const struct request *request)
{
    if (!owed_add(&client->owed, request))
        return failure_set(JITC_E_SYSTEM, "memory for what the broker can't be told now: %m");
    client->plane.room = 0;
    return call_late(client);
}

int client_unlock_lost(struct jitc_client *client)
{
    int status = call_lost(client);

    client_unlock(client);
    return status;
}

static int set_up_socket(int fd, uint32_t timeout_ms)
{
    struct timeval timeout = {.tv_sec = timeout_ms / 1000,
                              .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    int type = 0;
    socklen_t length = sizeof type;
    int flags;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0)
        return failure_set(JITC_E_SYSTEM, "descriptor %d: %m", fd);
    if (type != SOCK_SEQPACKET)
        return failure_set(JITC_E_INVALID, "descriptor %d is no SOCK_SEQPACKET socket", fd);
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0)
        return failure_set(JITC_E_SYSTEM, "preparing the socket: %m");
    return JITC_OK;
}

/* Trusting the daemon is one thing, following a wrong program's numbers another. */
static int check_welcome(const struct reply_record *reply, const struct record *record, bool is_executor)
{
    const struct welcome *welcome = &reply->welcome;
    unsigned fds = (welcome->write_mode == WRITE_DIRECT ? 2u : 1u) + (welcome->ring_bytes != 0 ? 2u : 0u);

    if (!reply->has_welcome)
        return failure_set(JITC_E_BAD_REPLY, "the broker answered Hello without Welcome");
    if (welcome->version != PROTOCOL_VERSION)
        return failure_set(JITC_E_VERSION, "the broker chose version %" PRIu32 ", which was not offered",
                           welcome->version);
    if (welcome->arena_bytes < ARENA_MIN_BYTES || welcome->arena_bytes > ARENA_LIMIT_BYTES ||
        welcome->arena_bytes % BLOCK_BYTES != 0 || welcome->granularity < GRANULARITY_MIN_BYTES ||
        welcome->granularity > GRANULARITY_MAX_BYTES || welcome->arena_bytes > SIZE_MAX ||
        (welcome->granularity & (welcome->granularity - 1)) != 0 || record->fds_count != fds ||
        (welcome->ring_bytes != 0 && welcome->ring_bytes != RING_BYTES))
        return failure_set(JITC_E_BAD_REPLY, "the broker's Welcome makes no sense");
    if (welcome->executor && !is_executor)
        return failure_set(JITC_E_INVALID, "the socket is an executor's: use jitc_attach()");
    if (!welcome->executor && is_executor)
        return failure_set(JITC_E_INVALID, "the socket is no executor's: see jitc_open_executor()");
    return JITC_OK;
}

int client_move_fd(int *fd, uint32_t fd_min)
{
    int moved = -1;

    if (*fd > STDERR_FILENO && (uint32_t)*fd >= fd_min)
        return JITC_OK;
    if (fd_min <= INT_MAX)
        moved = fcntl(*fd, F_DUPFD_CLOEXEC, (int)fd_min > STDERR_FILENO ? (int)fd_min : STDERR_FILENO + 1);
    if (moved < 0 && *fd > STDERR_FILENO)
        return JITC_OK; /* so many may not be open */
    if (moved < 0)
        moved = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (moved < 0)
        return failure_set(JITC_E_SYSTEM, "descriptor %d: %m", *fd);
    (void)close(*fd);
    *fd = moved;
    return JITC_OK;
}

/* Each takes over the descriptors that it keeps, and makes them -1 where they stand. */
static int map_arena(struct jitc_client *client, const jitc_options *options, const struct welcome *welcome,
                     int *fds)
{
    int status = arena_map_init(&client->map, fds[0], welcome->write_mode == WRITE_DIRECT ? fds[1] : -1,
                                (size_t)welcome->arena_bytes, options->near_to,
                                (options->flags & JITC_NEAR_REQUIRED) != 0,
                                (welcome->features & FEATURE_LARGE_PAGES) != 0);

    if (status == JITC_OK)
        fds[0] = -1;
    return status;
}

static int set_up_ring(struct jitc_client *client, const struct welcome *welcome, int *fds)
{
    int status = plane_init(&client->plane, fds[0], fds[1]);

    if (status != JITC_OK)
        return status;
    fds[0] = -1;
    fds[1] = -1;
    return lessee_init(&client->lessee, welcome->arena_bytes, welcome->granularity,
                       (welcome->features & FEATURE_IMMEDIATE_RELEASE) != 0);
}

static uint64_t wishes(const jitc_options *options, bool is_executor)
{
    /* That it shows in our mapping, where the arena has them. */
    if (is_executor)
        return FEATURE_LARGE_PAGES;
    return ((options->flags & JITC_IMMEDIATE_RELEASE) != 0 ? FEATURE_IMMEDIATE_RELEASE : 0) |
           ((options->flags & JITC_LARGE_PAGES) != 0 ? FEATURE_LARGE_PAGES : 0) | FEATURE_RING |
           FEATURE_EXECUTORS;
}

static int handshake(struct jitc_client *client, const jitc_options *options, bool is_executor)
{
    const struct hello hello = {
        .version_min = PROTOCOL_VERSION,
        .version_max = PROTOCOL_VERSION,
        .features = wishes(options, is_executor),
        .write_mode = (uint32_t)options->write_mode,
        .arena_bytes = options->arena_bytes,
        .granularity = options->granularity,
        .fill_pattern = options->fill_pattern,
    };
    struct buffer out = call_buffer(client);
    struct reply_record reply;
    struct record record = {.fds_count = 0};
    uint64_t id;
    int status = JITC_OK;

    (void)codec_put_hello(&out, &hello); /* an empty record has room for it */
    status = call_send(client, &out, false, &id);
    if (status == JITC_OK)
        status = call_receive(client, id, &reply, RECORD_FDS_MAX, &record);
    if (status != JITC_OK)
        return status;
    status = check_welcome(&reply, &record, is_executor);
    for (unsigned i = 0; status == JITC_OK && i < record.fds_count; i++)
        status = client_move_fd(&record.fds[i], client->fd_min);
    if (status == JITC_OK)
        status = map_arena(client, options, &reply.welcome, record.fds);
    if (status == JITC_OK && reply.welcome.ring_bytes != 0)
        status = set_up_ring(client, &reply.welcome, &record.fds[record.fds_count - 2]);
    for (unsigned i = 0; i < record.fds_count; i++) {
        if (record.fds[i] >= 0)
            (void)close(record.fds[i]);
    }
    if (status == JITC_OK)
        client->welcome = reply.welcome;
    return status;
}

static struct jitc_client *client_allocate(void)
{
    struct jitc_client *client = calloc(1, sizeof *client);
    pthread_condattr_t by_clock;

    if (client == NULL)
        return NULL;
    client->records = malloc((size_t)2 * RECORD_MAX_BYTES);
    client->pool.bytes = malloc(CODEC_POOL_BYTES);
    client->pool.capacity = CODEC_POOL_BYTES;
    client->mark = fork_guard_mark();
    if (client->records == NULL || client->pool.bytes == NULL || client->mark == 0) {
        free(client->records);
        free(client->pool.bytes);
        free(client);
        return NULL;
    }
    (void)pthread_mutex_init(&client->lock, NULL);
    (void)pthread_condattr_init(&by_clock);
    (void)pthread_condattr_setclock(&by_clock, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&client->turn, &by_clock);
    (void)pthread_condattr_destroy(&by_clock);
    return client;
}

int client_new(struct jitc_client **result, int socket, const jitc_options *options, bool is_executor)
{
    struct jitc_client *client;
    int status = set_up_socket(socket, options->timeout_ms);

    if (status == JITC_OK)
        status = client_move_fd(&socket, options->fd_min);
    if (status != JITC_OK) {
        if (socket >= 0)
            (void)close(socket);
        return status;
    }
    client = client_allocate();
    if (client == NULL) {
        status = failure_set(JITC_E_SYSTEM, "memory for a client: %m");
        (void)close(socket);
        return status;
    }
    client->socket = socket;
    client->timeout_ms = options->timeout_ms;
    client->fd_min = options->fd_min;
    client->fails_fast = (options->flags & JITC_FAIL_FAST) != 0;
    client->has_barrier =
        syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0;
    status = handshake(client, options, is_executor);
    if (status != JITC_OK) {
        (void)jitc_close(client);
        return status;
    }
    *result = client;
    return JITC_OK;
}

int jitc_adopt(jitc_client **client, int fd, const jitc_options *options)
{
    jitc_options all;
    int status = client_options(options, &all);

    patience_begin();
    if (status == JITC_OK)
        return client_new(client, fd, &all, false);
    if (fd >= 0)
        (void)close(fd);
    return status;
}

jitc_client *jitc_close(jitc_client *client)
{
    bool inherited;

    if (client == NULL)
        return NULL;
    inherited = !fork_guard_is_ours(client->mark);
    /* A child closes its own copy; its parent ends the session, whatever children hold one. */
    if (!inherited)
        (void)shutdown(client->socket, SHUT_RDWR);
    (void)close(client->socket);
    plane_deinit(&client->plane, inherited);
    lessee_deinit(&client->lessee);
    arena_map_deinit(&client->map, inherited);
    owed_deinit(&client->owed);
    if (!inherited) { /* a child's copy may be held by a thread that it does not have */
        (void)pthread_mutex_destroy(&client->lock);
        (void)pthread_cond_destroy(&client->turn);
    }
    free(client->records);
    free(client->pool.bytes);
    free(client);
    return NULL;
}

int jitc_descriptors(jitc_client *client, int *fds, size_t capacity, size_t *count)
{
    int status = client_check(client);
    int kept[3];
    size_t have = 0;

    if (status == JITC_OK && (count == NULL || (fds == NULL && capacity > 0)))
        status = failure_set(JITC_E_INVALID, "%s is NULL", count == NULL ? "count" : "fds");
    if (status != JITC_OK)
        return status;
    kept[have++] = client->socket;
    kept[have++] = client->map.fd;
    if (client->plane.memory != NULL)
        kept[have++] = client->plane.bell;
    for (size_t i = 0; i < have && i < capacity; i++)
        fds[i] = kept[i];
    *count = have;
    return JITC_OK;
}

int jitc_describe(jitc_client *client, jitc_info *info)
{
    const struct welcome *welcome;
    jitc_info all;
    int status = client_check(client);

    if (status == JITC_OK)
        status = client_check_struct("jitc_info", info->struct_size, INFO_0_1_0_BYTES);
    if (status != JITC_OK)
        return status;
    welcome = &client->welcome;
    all = (jitc_info){
        .struct_size = info->struct_size,
        .base = client->map.rx,
        .arena_bytes = welcome->arena_bytes,
        .span_max_bytes = welcome->span_max_bytes,
        .spans_max = welcome->spans_max,
        .granularity = welcome->granularity,
        .fill_pattern = welcome->fill_pattern,
        .write_mode = (enum jitc_write_mode)welcome->write_mode,
        .is_near = client->map.is_near,
        .is_sealed = welcome->sealed,
        .has_large_pages = (welcome->features & FEATURE_LARGE_PAGES) != 0,
        .session = welcome->session,
        .is_executor = welcome->executor,
    };
    memcpy(all.broker, welcome->daemon, sizeof all.broker);
    memcpy(info, &all, all.struct_size < sizeof all ? all.struct_size : sizeof all);
    return JITC_OK;
}
