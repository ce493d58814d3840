/* SPDX-License-Identifier: MIT */
/*
 * Records over a SOCK_SEQPACKET socket, with the descriptors that belong to them.
 * The first of four checks (framing, rights, syntax, meaning): what comes out is
 * one whole record and no descriptor that was not asked for.
 */
#ifndef PROTO_RECORD_H
#define PROTO_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_FDS_MAX 5u

enum record_flaw {
    RECORD_WHOLE = 0,
    RECORD_E_END,       /* the peer closed, or sent a record of no bytes, which looks the same */
    RECORD_E_OVERSIZED, /* longer than the buffer: the rest is lost */
    RECORD_E_FDS,       /* more descriptors than asked for: all of them are closed */
    RECORD_E_NO_FDS     /* there was no number free for some of them; the others are closed */
};

struct record {
    size_t bytes;
    int fds[RECORD_FDS_MAX]; /* close-on-exec, the caller's to close */
    unsigned fds_count;
};

/*
 * Receives one record. Returns 0 or a positive enum record_flaw for what the peer
 * did, or -errno: -EAGAIN where none is there, or, with `wait`, none came within the
 * socket's SO_RCVTIMEO; -EINTR only with `wait`. On a flaw or an error no descriptor
 * is left open. With fds_max 0 the kernel never even installs one.
 */
int record_recv(int socket, bool wait, void *buffer, size_t buffer_bytes, unsigned fds_max,
                struct record *record);

/* The same without waiting, and leaves the record where it is: record_take() then takes it. */
int record_peek(int socket, void *buffer, size_t buffer_bytes, unsigned fds_max, struct record *record);
void record_take(int socket);

/* True if the peer has not read all that it was sent: it may have descriptors of ours in flight. */
bool record_is_unread(int socket);

/*
 * Drops what the peer has sent, with its descriptors: its own socket, say, which would else never be closed.
 * For a socket by which nothing is received any more.
 */
void record_drop(int socket);

/* Sends one record, without SIGPIPE; the descriptors stay the caller's. 0 or -errno, as above. */
int record_send(int socket, bool wait, const void *data, size_t bytes, const int *fds, unsigned fds_count);

#endif
