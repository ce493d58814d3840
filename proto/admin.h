/* SPDX-License-Identifier: MIT */
/*
 * The admin socket's records. Unlike those of clients (codec.h) they are worked on as protobuf-c has
 * them: daemon and tool are of one release, and no structure of ours would say anything else.
 */
#ifndef PROTO_ADMIN_H
#define PROTO_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "admin.pb-c.h"
#include "proto/codec.h"

#define ADMIN_SOCKET "/run/jitbroker/admin"
/* Whose members may read. */
#define ADMIN_GROUP "jitbroker-admin"
/* A request: so small that what decoding it takes is bounded by that. */
#define ADMIN_REQUEST_MAX_BYTES 128u
#define ADMIN_REPLY_MAX_BYTES 65536u

/* Appends to the record in `out`, or returns false and leaves it as it was: no room. */
bool admin_put(struct buffer *out, const Admin__Reply *part);

/* False, with the reason, if the request has what its verb does not take. */
bool admin_validate(const Admin__Request *request, char *reason, size_t reason_bytes);

/* "debug", ...; NULL where the number is no level. */
const char *admin_level_name(uint32_t level);
/* 0 where there is none of that name. */
uint32_t admin_level(const char *name);

#endif
