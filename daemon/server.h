/* SPDX-License-Identifier: MIT */
/* The loop, the sockets it listens on, and everyone that it serves. */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/config.h"
#include "daemon/connection.h"
#include "daemon/poller.h"
#include "daemon/quota.h"
#include "proto/codec.h"

#define SERVER_LISTENERS_MAX 8u

struct listener {
    struct server *server;
    uv_poll_t poll;
    uv_timer_t retry; /* when the process ran out of descriptors */
    int fd;
};

struct server {
    uv_loop_t loop;
    const struct config *config;
    struct quota quota;
    struct listener listeners[SERVER_LISTENERS_MAX];
    unsigned listeners_count;
    uv_signal_t signals[2];
    unsigned signals_count;
    uv_timer_t watchdog;
    uv_prepare_t prepare;
    uv_poll_t highest; /* descriptor: only for the table that libuv has of them */
    struct poller poller;
    uint64_t turn; /* of the loop, counted from 1 */
    bool has_watchdog;
    bool stopping;
    bool ends_when_idle; /* a private broker: ends with its only connection */
    struct connection *connections;
    uint32_t connections_count;
    uint64_t sessions_started;

    /* One record at a time is worked on, so all connections share these. */
    uint8_t in[RECORD_MAX_BYTES];
    uint8_t out[RECORD_MAX_BYTES];
    uint8_t pool[CODEC_POOL_BYTES] __attribute__((aligned(16)));
};

/* The configuration must outlive the server. 0 or -errno. */
int server_init(struct server *server, const struct config *config);
void server_deinit(struct server *server);

/* Accepts from a listening SOCK_SEQPACKET socket, which it takes over. 0 or -errno. */
int server_listen(struct server *server, int fd);

/* Serves one connected socket, which it takes over; the server ends when that does. False: it was turned
 * away. */
bool server_serve_only(struct server *server, int fd);

/* Told by a connection that has ended. */
void server_connection_ended(struct server *server);

/* Runs until SIGTERM or SIGINT, or until there is nothing left to serve. */
void server_run(struct server *server);

#endif
