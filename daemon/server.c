/* SPDX-License-Identifier: MIT */
#include "daemon/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/admission.h"
#include "daemon/log.h"
#include "daemon/process.h"

/* Connections are accepted for so long in a turn of the loop, one at least: a flood of them starves nobody.
 */
#define ACCEPT_SLICE_NS UINT64_C(20000)
#define RETRY_MS 100
/* What may wait in all: answers that nobody reads, requests whose slice is over. */
#define QUEUED_MAX_BYTES (UINT64_C(64) << 20)

static void server_stop(struct server *server)
{
    if (server->stopping)
        return;
    server->stopping = true;
    server->leaves = store_is_there(&server->store);
    (void)store_say(&server->store, "STOPPING=1");
    while (server->connections != NULL)
        connection_end(server->connections, STATUS_STOPPING, "the daemon stops");
    server->audit = audit_free(server->audit);
    admin_stop(&server->admin);
    for (unsigned i = 0; i < server->listeners_count; i++) {
        uv_close((uv_handle_t *)&server->listeners[i].poll, NULL);
        uv_close((uv_handle_t *)&server->listeners[i].retry, NULL);
        (void)close(server->listeners[i].fd);
    }
    for (unsigned i = 0; i < server->signals_count; i++)
        uv_close((uv_handle_t *)&server->signals[i], NULL);
    if (server->has_watchdog)
        uv_close((uv_handle_t *)&server->watchdog, NULL);
    if (server->has_holders)
        uv_close((uv_handle_t *)&server->holders, NULL);
    uv_close((uv_handle_t *)&server->prepare, NULL);
    poller_deinit(&server->poller);
    store_deinit(&server->store);
}

void server_connection_ended(struct server *server)
{
    if (server->ends_when_idle && server->connections == NULL)
        server_stop(server);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *server = handle->data;

    if (number == SIGHUP) {
        if (server->on_reload != NULL)
            server->on_reload(server);
        return;
    }
    if (number == SIGUSR2) {
        log_line(LOG_WARNING,
                 "signal %d: to be replaced is for a supervisor, see jitbrokerd --supervise; nothing is done",
                 number);
        return;
    }
    /* A manager tells all processes of a unit to end, of which the program takes its time, and needs us. */
    if (server->has_holders && !server->ends_when_idle)
        return;
    log_event(LOG_STOPPING, NULL, NULL, "signal=%d sessions=%s", number,
              store_is_there(&server->store) ? "stored" : "end");
    server_stop(server);
}

static void on_prepare(uv_prepare_t *handle)
{
    struct server *server = handle->data;

    server->turn++;
}

static void on_watchdog(uv_timer_t *timer)
{
    const struct server *server = timer->data;

    if (store_say(&server->store, "WATCHDOG=1") == -EAGAIN)
        (void)uv_timer_start(timer, on_watchdog, RETRY_MS, uv_timer_get_repeat(timer));
}

static int start_signals(struct server *server)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};

    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        int error = uv_signal_init(&server->loop, &server->signals[i]);

        if (error != 0)
            return error;
        server->signals_count++;
        server->signals[i].data = server;
        error = uv_signal_start(&server->signals[i], on_signal, numbers[i]);
        if (error != 0)
            return error;
    }
    return 0;
}

/* Without a watchdog, or with a wrong wish for one, the daemon serves all the same. */
static void start_watchdog(struct server *server)
{
    uint64_t period_us = 0;
    int enabled = sd_watchdog_enabled(0, &period_us);
    uint64_t period_ms = period_us / 1000 / 2;

    if (enabled < 0)
        log_line(LOG_WARNING, "$WATCHDOG_USEC: %s", strerror(-enabled));
    if (enabled <= 0)
        return;
    (void)uv_timer_init(&server->loop, &server->watchdog);
    server->has_watchdog = true;
    server->watchdog.data = server;
    (void)uv_timer_start(&server->watchdog, on_watchdog, period_ms, period_ms);
}

static uint64_t half_of_memory(void)
{
    struct sysinfo info;

    return sysinfo(&info) != 0 ? UINT64_MAX / 2 : (uint64_t)info.totalram * info.mem_unit / 2;
}

void server_set_policy(struct server *server, struct policy *policy)
{
    struct pool *pools = server->quota.pools;

    (void)policy_ref(policy);
    (void)policy_unref(server->policy);
    server->policy = policy;
    poller_set_spin(&server->poller, (uint64_t)policy->spin_us * 1000);
    pools[QUOTA_SESSIONS].total = policy->sessions_max;
    if (pools[QUOTA_FDS].total != 0 && pools[QUOTA_FDS].total / CONNECTION_FDS < policy->sessions_max)
        log_line(LOG_WARNING, "fewer descriptors than sessions_max= needs: more take a restart");
    pools[QUOTA_BYTES].total = policy->bytes_max == 0 ? half_of_memory() : policy->bytes_max;
    pools[QUOTA_QUEUED].total = QUEUED_MAX_BYTES;
}

bool server_keep_audit(struct server *server, const struct policy *policy, enum audit_to to, bool anew)
{
    const char *file = to == AUDIT_FILE && policy->audit_file[0] != '\0' ? policy->audit_file : NULL;

    if (to == AUDIT_OFF)
        return true;
    if (server->audit == NULL) {
        server->audit = audit_new(&server->loop, file, AUDIT_JOURNAL_SOCKET);
        return server->audit != NULL;
    }
    if (file == NULL || (!anew && audit_has_file(server->audit)))
        return true;
    return audit_reopen(server->audit, file);
}

/* libuv would abort() where this returns NULL. Called at the start only, see reserve_watchers(). */
static void *realloc_or_end(void *block, size_t bytes)
{
    void *now = realloc(block, bytes);

    if (now == NULL && bytes > 0) {
        log_line(LOG_ERROR, "can't start: no memory for the event loop");
        _exit(EXIT_FAILURE);
    }
    return now;
}

static void on_nothing(uv_poll_t *handle, int status, int events)
{
    (void)handle, (void)status, (void)events;
}

/*
 * libuv's table of who watches which descriptor grows with the highest one, and where it can't grow the
 * process ends. So it gets its full length before anyone is served. Where so many descriptors are not
 * allowed, as for a private broker, there is nothing to be had by that.
 */
static int reserve_watchers(struct server *server, uint64_t fds)
{
    int low = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int high;
    int error = 0;

    if (low < 0)
        return -errno;
    high = fcntl(low, F_DUPFD_CLOEXEC, (int)fds - 1);
    (void)close(low);
    if (high < 0)
        return errno == EINVAL ? 0 : -errno;
    error = uv_poll_init(&server->loop, &server->highest, high);
    if (error == 0) {
        error = uv_poll_start(&server->highest, UV_READABLE, on_nothing);
        uv_close((uv_handle_t *)&server->highest, NULL);
    }
    (void)close(high);
    return error;
}

static int reserve_descriptors(struct server *server)
{
    uint64_t *total = &server->quota.pools[QUOTA_FDS].total;

    *total = process_raise_fds((uint64_t)server->policy->sessions_max * CONNECTION_FDS);
    if (*total == 0)
        *total = 1; /* too few for anyone; 0 would mean that there is no end of them */
    return reserve_watchers(server, *total + PROCESS_FDS_OTHER);
}

int server_init(struct server *server, struct policy *policy)
{
    int error;

    memset(server, 0, offsetof(struct server, in));
    (void)uv_replace_allocator(malloc, realloc_or_end, calloc, free);
    error = uv_loop_init(&server->loop);
    if (error != 0)
        return error;
    poller_init(&server->poller, &server->loop);
    store_init(&server->store, &server->loop);
    server_set_policy(server, policy);
    (void)uv_prepare_init(&server->loop, &server->prepare);
    server->prepare.data = server;
    (void)uv_prepare_start(&server->prepare, on_prepare);
    error = reserve_descriptors(server);
    if (error == 0)
        error = start_signals(server);
    if (error == 0)
        start_watchdog(server);
    if (error != 0)
        server_deinit(server);
    return error;
}

void server_deinit(struct server *server)
{
    int error;

    server_stop(server);
    (void)uv_run(&server->loop, UV_RUN_DEFAULT); /* lets the closed handles go */
    error = uv_loop_close(&server->loop);
    assert(error == 0 && server->quota.accounts == NULL);
    for (int kind = 0; kind < QUOTA_COUNT; kind++)
        assert(server->quota.pools[kind].held == 0);
    (void)error;
    server->policy = policy_unref(server->policy);
}

/* ---- Accepting ------------------------------------------------------------------------- */

static void on_connect(uv_poll_t *handle, int status, int events);

static void on_retry(uv_timer_t *timer)
{
    struct listener *listener = timer->data;

    (void)uv_poll_start(&listener->poll, UV_READABLE, on_connect);
}

static void on_connect(uv_poll_t *handle, int status, int events)
{
    struct listener *listener = handle->data;
    uint64_t end_ns = uv_hrtime() + ACCEPT_SLICE_NS;

    (void)status, (void)events;
    do {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            admission_accept(listener->server, fd);
            continue;
        }
        if (errno == EAGAIN)
            return;
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        /* Out of descriptors or memory: who waits will be there later too. */
        log_client(LOG_ERROR, "accept: %s; trying again in %d ms", strerror(errno), RETRY_MS);
        (void)uv_poll_stop(&listener->poll);
        (void)uv_timer_start(&listener->retry, on_retry, RETRY_MS, 0);
        return;
    } while (uv_hrtime() < end_ns);
}

int server_listen(struct server *server, int fd)
{
    struct listener *listener = &server->listeners[server->listeners_count];
    int error = -E2BIG;

    if (server->listeners_count < SERVER_LISTENERS_MAX) {
        *listener = (struct listener){.server = server, .fd = fd};
        error = uv_poll_init(&server->loop, &listener->poll, fd);
    }
    if (error != 0) {
        (void)close(fd);
        return error;
    }
    (void)uv_timer_init(&server->loop, &listener->retry);
    listener->poll.data = listener;
    listener->retry.data = listener;
    server->listeners_count++;
    return uv_poll_start(&listener->poll, UV_READABLE, on_connect);
}

bool server_serve_only(struct server *server, int fd)
{
    admission_accept(server, fd);
    server->ends_when_idle = true;
    return server->connections != NULL;
}

/* What is written there means nothing: a program may not know what it inherited. */
static void on_holders(uv_poll_t *handle, int status, int events)
{
    struct server *server = handle->data;
    char ignored[4096];
    ssize_t got = status == 0 ? read(server->holders_fd, ignored, sizeof ignored) : 0;

    (void)events;
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    (void)uv_poll_stop(handle);
    server->ends_when_idle = true;
    server_connection_ended(server);
}

int server_serve_holders(struct server *server, int fd)
{
    int error = uv_poll_init(&server->loop, &server->holders, fd);

    if (error != 0)
        return error;
    server->has_holders = true;
    server->holders_fd = fd;
    server->holders.data = server;
    return uv_poll_start(&server->holders, UV_READABLE, on_holders);
}

void server_run(struct server *server)
{
    store_tell(&server->store, "READY=1");
    (void)uv_run(&server->loop, UV_RUN_DEFAULT);
}
