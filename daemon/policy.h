/* SPDX-License-Identifier: MIT */
/*
 * What the operator allows: limits of the daemon as a whole, and classes of peers with
 * what each gets. A peer belongs to the first class that it matches; who matches none is
 * refused. The class `default` stands behind all others, wherever the file has it.
 *
 * A policy does not change once it was read. Who was let in by it keeps it (and so its
 * class) by a reference, whatever the daemon has loaded since.
 */
#ifndef DAEMON_POLICY_H
#define DAEMON_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/audit.h"
#include "daemon/peer.h"
#include "daemon/scan.h"

#define CLASS_NAME_MAX_BYTES 31u
#define CLASS_IDS_MAX 64u
#define CLASS_KEYS_MAX 24u
#define DAEMON_KEYS_MAX 8u
#define CLASSES_MAX 64u
#define DROP_INS_MAX 256u
/* Without its terminator: more does not fit a line of the file. */
#define VALUE_MAX_BYTES 198u

struct id_range {
    uint32_t first;
    uint32_t last;
};

/* Of uids or gids; none: anyone. */
struct id_set {
    struct id_range ranges[CLASS_IDS_MAX];
    size_t count;
};

/* Where a value came from, for who asks why. */
struct setting {
    char *value; /* as written; NULL: the default */
    unsigned file;
    int line;
};

struct class
{
    char name[CLASS_NAME_MAX_BYTES + 1];
    unsigned file; /* where it stands first ... */
    int line;      /* ... 0: nowhere */
    struct setting settings[CLASS_KEYS_MAX];

    /* Who belongs to it: all of them have to match. */
    struct id_set uids;
    struct id_set gids;
    char unit[VALUE_MAX_BYTES + 1];  /* a pattern as in fnmatch(3); "": any */
    char label[VALUE_MAX_BYTES + 1]; /* the same */

    bool write_through; /* false: it gets no code memory */
    bool write_direct;
    bool write_once;
    uint64_t arena_bytes; /* what a client gets that names no size */
    uint64_t arena_max_bytes;
    uint64_t bytes_max;    /* per uid */
    uint32_t session_max;  /* per uid */
    uint32_t span_max;     /* per session */
    uint32_t executor_max; /* ends per session */
    bool orphans_run;      /* executors go on when the owner is gone */
    bool ring;             /* whether sessions get one */
    bool huge_pages;       /* for arenas of clients that ask for them */
    uint32_t rate;         /* operations per second and session; 0: as many as it can */
    uint64_t rate_bytes;   /* the same of bytes that the daemon writes, fills, gets or gives back */
    enum scan_mode scan;
    uint32_t forbid; /* SCAN_*: what is scanned for */
    enum audit_to audit;
};

struct policy {
    unsigned refs;
    char *files[1 + DROP_INS_MAX]; /* that it was read from */
    unsigned files_count;
    struct setting settings[DAEMON_KEYS_MAX];

    uint32_t sessions_max;
    uint64_t bytes_max; /* code memory of all users together; 0: half of the machine's memory */
    uint32_t hello_timeout_ms;
    uint32_t reply_timeout_ms; /* how long an answer may wait for its reader */
    uint32_t spin_us;          /* longest look at a ring in which nothing happens; 0: none */
    char audit_file[VALUE_MAX_BYTES + 1];
    bool is_broken; /* the files have a mistake; this stands for them, and lets nobody in */

    unsigned facts;         /* PEER_*: what has to be known of a peer to find its class */
    struct class **classes; /* in their order */
    size_t classes_count;
};

/* Without a class; with one reference, the caller's. NULL without memory. */
struct policy *policy_new(void);
struct policy *policy_ref(struct policy *policy);
struct policy *policy_unref(struct policy *policy);

/* NULL: there is none. */
struct class *policy_find(const struct policy *policy, const char *name);
/* A new one, behind the others but before `default`, all zeros; NULL without memory, or with CLASSES_MAX. */
struct class *policy_add(struct policy *policy, const char *name);

/* The first class that the peer matches, which belongs to the policy; NULL: it is refused. */
const struct class *policy_match(const struct policy *policy, const struct peer *peer);

/* Why the peer is not of that class: the key that does not match, or NULL if it is. */
const char *class_mismatch(const struct class *class, const struct peer *peer);

#endif
