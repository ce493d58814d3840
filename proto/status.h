/* SPDX-License-Identifier: MIT */
/*
 * What the daemon says of a request that it refused. The numbers are part of the
 * protocol (Error.code) and of libjitclient's enum jitc_status: never reuse one.
 */
#ifndef PROTO_STATUS_H
#define PROTO_STATUS_H

enum status {
    STATUS_OK = 0,
    STATUS_MALFORMED = 1,
    STATUS_PROTOCOL = 2,
    STATUS_VERSION = 3,
    STATUS_UNKNOWN_OPERATION = 4,
    STATUS_UNKNOWN_FIELD = 5,
    STATUS_REFUSED = 6,
    STATUS_INVALID = 7,
    STATUS_MISALIGNED = 8,
    STATUS_NO_SPAN = 9,
    STATUS_OUT_OF_RANGE = 10,
    STATUS_SEALED = 11,
    STATUS_MISMATCH = 12,
    STATUS_TOO_LARGE = 13,
    STATUS_ARENA_FULL = 14,
    STATUS_QUOTA_SPANS = 15,
    STATUS_QUOTA_BYTES = 16,
    STATUS_QUOTA_SESSIONS = 17,
    STATUS_NO_MEMORY = 18,
    STATUS_HELLO_TIMEOUT = 19,
    STATUS_STOPPING = 20,
    STATUS_FORBIDDEN = 21,
    STATUS_FROZEN = 22,
    STATUS_COUNT
};

#endif
