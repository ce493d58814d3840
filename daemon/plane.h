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
    int memory_fd; /* until it was handed over */
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
 * Tells the client that nothing more is done, and lets go of all but the libuv handle, which it closes. To
 * revoke is to give the ring's memory, but for the page that says so, back to the system even where the
 * client still maps it.
 */
void plane_end(struct plane *plane, bool revoke, uv_close_cb closed);
bool plane_is_there(const struct plane *plane);
/* The client has the memory's descriptor now, or never will; without a plane nothing happens. */
void plane_forget_memory_fd(struct plane *plane);

/* Does what the client asked for by now, up to a bound. False: there was nothing. May end the connection. */
bool plane_serve(struct plane *plane);

/* Nothing has happened at the ring for idle_ns: after spin_ns it sleeps, unless there is something to do. */
void plane_rest(struct plane *plane, uint64_t idle_ns, uint64_t spin_ns);

/* While the connection is held up by something else: no matter how often, one resume ends it. */
void plane_pause(struct plane *plane);
void plane_resume(struct plane *plane);

#endif
