/* SPDX-License-Identifier: MIT */
#include "daemon/server.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/log.h"

/* Connections are accepted for so long in a turn of the loop, one at least: a flood of them starves nobody.
 */
#define ACCEPT_SLICE_NS UINT64_C(20000)
#define RETRY_MS 100

static void server_stop(struct server *server)
{
    if (server->stopping)
        return;
    server->stopping = true;
    (void)sd_notify(0, "STOPPING=1");
    while (server->connections != NULL)
        connection_end(server->connections, STATUS_STOPPING, "the daemon stops");
    for (unsigned i = 0; i < server->listeners_count; i++) {
        uv_close((uv_handle_t *)&server->listeners[i].poll, NULL);
        uv_close((uv_handle_t *)&server->listeners[i].retry, NULL);
        (void)close(server->listeners[i].fd);
    }
    for (unsigned i = 0; i < server->signals_count; i++)
        uv_close((uv_handle_t *)&server->signals[i], NULL);
    if (server->has_watchdog)
        uv_close((uv_handle_t *)&server->watchdog, NULL);
    uv_close((uv_handle_t *)&server->prepare, NULL);
    poller_deinit(&server->poller);
}

void server_connection_ended(struct server *server)
{
    if (server->ends_when_idle && server->connections == NULL)
        server_stop(server);
}

static void on_signal(uv_signal_t *handle, int number)
{
    log_line(LOG_NOTICE, "stopping: signal %d", number);
    server_stop(handle->data);
}

static void on_prepare(uv_prepare_t *handle)
{
    struct server *server = handle->data;

    server->turn++;
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    (void)sd_notify(0, "WATCHDOG=1");
}

static int start_signals(struct server *server)
{
    static const int numbers[] = {SIGTERM, SIGINT};

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
    (void)uv_timer_start(&server->watchdog, on_watchdog, period_ms, period_ms);
}

int server_init(struct server *server, const struct config *config)
{
    int error;

    memset(server, 0, offsetof(struct server, in));
    server->config = config;
    error = uv_loop_init(&server->loop);
    if (error != 0)
        return error;
    poller_init(&server->poller, &server->loop, (uint64_t)config->spin_us * 1000);
    (void)uv_prepare_init(&server->loop, &server->prepare);
    server->prepare.data = server;
    (void)uv_prepare_start(&server->prepare, on_prepare);
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
    (void)error;
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
            connection_accept(listener->server, fd);
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
    connection_accept(server, fd);
    server->ends_when_idle = true;
    return server->connections != NULL;
}

void server_run(struct server *server)
{
    int error = sd_notify(0, "READY=1");

    if (error < 0)
        log_line(LOG_WARNING, "$NOTIFY_SOCKET: %s", strerror(-error));
    (void)uv_run(&server->loop, UV_RUN_DEFAULT);
}
