/* SPDX-License-Identifier: MIT */
/* The loop, the sockets it listens on, and everyone that it serves. */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/admin.h"
#include "daemon/audit.h"
#include "daemon/connection.h"
#include "daemon/latency.h"
#include "daemon/policy.h"
#include "daemon/poller.h"
#include "daemon/quota.h"
#include "daemon/store.h"
#include "proto/codec.h"

#define SERVER_LISTENERS_MAX 8u
#define POLICY_MISTAKE_BYTES 512u

struct listener {
    struct server *server;
    uv_poll_t poll;
    uv_timer_t retry; /* when the process ran out of descriptors */
    int fd;
};

struct server {
    uv_loop_t loop;
    struct policy *policy; /* for whom comes next */
    struct quota quota;
    struct listener listeners[SERVER_LISTENERS_MAX];
    unsigned listeners_count;
    uv_signal_t signals[4];
    unsigned signals_count;
    uv_timer_t watchdog;
    uv_prepare_t prepare;
    uv_poll_t highest; /* descriptor: only for the table that libuv has of them */
    struct poller poller;
    struct store store;
    struct admin admin;
    struct latency latency;
    char
        policy_mistake[POLICY_MISTAKE_BYTES]; /* of the files as they were read last; "": they are in force */
    struct audit *audit;                      /* NULL where no class has one */
    uint64_t turn;                            /* of the loop, counted from 1 */
    bool has_watchdog;
    uv_poll_t holders; /* of the other end of a descriptor, for whom a private broker is */
    int holders_fd;
    bool has_holders;
    bool stopping;
    bool leaves;                              /* stopping, and the sessions are the next daemon's */
    bool ends_when_idle;                      /* a private broker: ends with its last connection */
    void (*on_reload)(struct server *server); /* SIGHUP; NULL: ignored */
    struct connection *connections;
    uint32_t connections_count;
    uint64_t sessions_started;
    uint64_t executors_started;
    uint64_t sessions_adopted;
    pid_t supervisor; /* 0: no one of ours */

    /* One record at a time is worked on, so all connections share these. */
    uint8_t in[RECORD_MAX_BYTES];
    uint8_t out[RECORD_MAX_BYTES];
    uint8_t pool[CODEC_POOL_BYTES] __attribute__((aligned(16)));
};

/* 0 or -errno. */
int server_init(struct server *server, struct policy *policy);
void server_deinit(struct server *server);

/*
 * Serves by that policy from now on, of which it takes a reference. Who is connected keeps what it was
 * granted.
 */
void server_set_policy(struct server *server, struct policy *policy);

/*
 * Has the trail that a class asks for: in the policy's file, or in the journal. `anew`: it goes on in what is
 * behind the file's path now. False: it can't, which was logged. It never ends: there may be sessions of an
 * older policy that it is for.
 */
bool server_keep_audit(struct server *server, const struct policy *policy, enum audit_to to, bool anew);

/* Accepts from a listening SOCK_SEQPACKET socket, which it takes over. 0 or -errno. */
int server_listen(struct server *server, int fd);

/* Serves one connected socket, which it takes over; the server ends when that does. False: it was turned
 * away. */
bool server_serve_only(struct server *server, int fd);

/* The server ends when the end of file comes from `fd`, a pipe, and nobody is connected. 0 or -errno. */
int server_serve_holders(struct server *server, int fd);

/* Told by a connection that has ended. */
void server_connection_ended(struct server *server);

/* Runs until SIGTERM or SIGINT, or until there is nothing left to serve. */
void server_run(struct server *server);

#endif
