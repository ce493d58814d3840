/* SPDX-License-Identifier: MIT */
/*
 * The data plane of one session: its ring, and the bell by which the client wakes us.
 *
 * A plane is awake (the poller looks at its ring, see poller.h), or asleep (its ring
 * says so, and the bell will ring), or paused: it is not looked at, and the client, which is told
 * nothing, waits. Nothing that the client puts into the ring is believed, see ring.h: an
 * entry that makes no sense ends the session.
 */
#ifndef DAEMON_PLANE_H
#define DAEMON_PLANE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "proto/ring.h"

struct connection;

struct plane {
    struct connection *connection;
    struct plane *next; /* of its user's that are awake, in a circle; NULL: it is not */
    struct plane *prev;
    struct ring ring;
    void *memory;
    int memory_fd;
    int bell;
    uv_poll_t poll; /* of the bell */
    uint64_t head;
    uint64_t refused;
    uint64_t told;          /* the head that the client knows */
    uint64_t staged;        /* where the last data ended: where the next will be, most likely */
    uint64_t idle_since_ns; /* 0: there was something to do when it was looked at last */
    bool is_paused;
};

/*
 * Makes the ring of a connection that has none, and watches its bell. 0 or -errno. The plane
 * is part of the connection, which plane_end() must outlive.
 */
int plane_init(struct plane *plane, struct connection *connection);
/*
 * Goes on at the ring that an earlier process made, whatever it holds, and is paused. It takes both
 * descriptors over. NULL, or what is wrong: then there is no plane.
 */
const char *plane_adopt(struct plane *plane, struct connection *connection, int memory_fd, int bell);

enum plane_end {
    PLANE_LEAVE, /* the ring waits for another process */
    PLANE_END,   /* the client is told that nothing more is done */
    PLANE_REVOKE /* so it is, and the memory but for that page goes back, even where the client still maps it
                  */
};

/* Lets go of all but the libuv handle, which it closes. */
void plane_end(struct plane *plane, enum plane_end how, uv_close_cb closed);
bool plane_is_there(const struct plane *plane);

/* Does what the client asked for by now, up to a bound. False: there was nothing. May end the connection. */
bool plane_serve(struct plane *plane);

/* Nothing has happened at the ring for idle_ns: after spin_ns it sleeps, unless there is something to do. */
void plane_rest(struct plane *plane, uint64_t idle_ns, uint64_t spin_ns);

/* While the connection is held up by something else: no matter how often, one resume ends it. */
void plane_pause(struct plane *plane);
void plane_resume(struct plane *plane);

#endif
