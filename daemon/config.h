/* SPDX-License-Identifier: MIT */
/*
 * What the operator allows: an INI file, read whole or not at all. Every key has a
 * default, so that no file is needed; jitbrokerd.conf(5) describes them.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/audit.h"

#define CONFIG_UIDS_MAX 64u

struct uid_range {
    uid_t first;
    uid_t last;
};

struct config {
    /* [daemon] */
    uint32_t sessions_max;
    uint32_t hello_timeout_ms;
    uint32_t spin_us;     /* longest look at a ring in which nothing happens; 0: none */
    char audit_file[256]; /* "": none */
    /* [class default]: who is served, and with what */
    struct uid_range uids[CONFIG_UIDS_MAX];
    size_t uids_count; /* 0: everyone */
    bool write_through;
    bool write_direct;
    uint64_t arena_bytes; /* what a client gets that names no size */
    uint64_t arena_max_bytes;
    uint64_t bytes_max;   /* per uid */
    uint32_t session_max; /* per uid */
    uint32_t span_max;    /* per session */
    bool ring;            /* whether sessions get one */
    uint32_t rate;        /* operations per second and session; 0: as many as it can */
    bool huge_pages;      /* for arenas of clients that ask for them */
    enum audit_to audit;
};

void config_init(struct config *config);

/*
 * Reads the file over the defaults. On a mistake returns false with *config as
 * config_init() leaves it and "FILE:LINE: what is wrong" in `mistake`.
 */
bool config_read(struct config *config, const char *path, char *mistake, size_t mistake_bytes);

bool config_serves(const struct config *config, uid_t uid);

#endif
