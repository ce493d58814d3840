/* SPDX-License-Identifier: MIT */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

#define STATED AIM_NONE, false, 0
#define AT_MOST(on, aim) AIM_##on, false, aim
#define AT_LEAST(on, aim) AIM_##on, true, aim

/* A table. clang-format would break it. */
/* clang-format off */
const struct row rows[] = {
    {"floor.clock", "reading the clock", "us", NULL, STATED},
    {"floor.polled", "exchange over shared memory, both sides polling", "us", NULL, STATED},
    {"floor.futex", "the same, both sides sleeping by futex", "us", NULL, STATED},
    {"floor.socket", "SEQPACKET round trip", "us", NULL, STATED},
    {"floor.socket-paused", "the same, after a pause of 3 ms each time", "us", NULL, STATED},
    {"floor.socket-one-cpu", "the same, both ends on one processor", "us", NULL, STATED},

    {"peer.mprotect", "mprotect RW, write, mprotect RX", "us", NULL, STATED},
    {"peer.mmap", "mmap, write, mprotect RX, munmap", "us", NULL, STATED},
    {"peer.dual", "memfd mapped twice, bump allocation by hand", "us", NULL, STATED},
    {"peer.asmjit", "asmjit, dual mapping: alloc + write + release", "us", NULL, STATED},

    {"through.cycle", "alloc + write + release", "us", "polled exchange", AT_MOST(RATIO, 3)},
    {"through.cycle-p99", "its p99", "us", "polled exchange", AT_MOST(RATIO, 10)},
    {"through.cycle-mprotect", "against mprotect", "us", "mprotect cycle", AT_MOST(RATIO, 0.2)},
    {"through.asleep", "the same, daemon asleep", "us", "paused SEQPACKET", AT_MOST(RATIO, 1.2)},
    {"through.one-cpu", "the same, daemon on the client's processor", "us", "SEQPACKET, one CPU", STATED},
    {"through.scope", "64 spans: alloc, one scope, release; per span", "us", NULL, AT_MOST(VALUE, 0.25)},
    {"through.scope-writes", "of that: the scope alone", "us", NULL, STATED},
    {"through.write-1m", "one write of 1 MiB", "GB/s", "memcpy", AT_LEAST(RATIO, 0.6)},
    {"through.write-16m", "one write of 16 MiB", "GB/s", "memcpy", AT_LEAST(RATIO, 0.6)},
    {"through.first-call", "connect, alloc, write, first call", "us", "SEQPACKET", AT_MOST(RATIO, 20)},

    {"scan.off", "one write, not looked at", "us", NULL, STATED},
    {"scan.on", "looked at for syscall, pku, segment", "us", "not looked at", AT_MOST(RATIO, 2)},
    {"scan.far", "for far as well", "us", "not looked at", STATED},

    {"audit.write-256", "write of 256 bytes, recorded in a file", "us", "unrecorded", STATED},
    {"audit.write-4k", "write of 4 KiB, recorded in a file", "us", "unrecorded", STATED},

    {"direct.cycle", "alloc + store by rw + release", "us", "asmjit", AT_MOST(RATIO, 1)},
    {"direct.cycle-write", "alloc + jitc_write() + release", "us", "asmjit", AT_MOST(RATIO, 1)},

    {"churn.asmjit", "asmjit", "us", NULL, STATED},
    {"churn.through", "write-through", "us", NULL, STATED},
    {"churn.direct", "direct", "us", NULL, STATED},
    {"churn.through-100k", "write-through: 100,000 against 1,000 live", "us", "1,000 live", AT_MOST(RATIO, 1.5)},
    {"churn.direct-100k", "direct: 100,000 against 1,000 live", "us", "1,000 live", AT_MOST(RATIO, 1.5)},
    {"churn.through-1m", "write-through: 1,000,000 against 1,000 live", "us", "1,000 live", AT_MOST(RATIO, 2)},
    {"churn.direct-1m", "direct: 1,000,000 against 1,000 live", "us", "1,000 live", AT_MOST(RATIO, 2)},
    {"churn.through-asmjit", "write-through: 100,000 live, against asmjit", "us", "asmjit", AT_MOST(RATIO, 0.05)},
    {"churn.direct-asmjit", "direct: 100,000 live, against asmjit", "us", "asmjit", AT_MOST(RATIO, 0.05)},

    {"density.asmjit", "asmjit: used of reserved", "%", NULL, STATED},
    {"density.through", "write-through: used of reserved", "%", NULL, AT_LEAST(VALUE, 95)},
    {"density.direct", "direct: used of reserved", "%", NULL, AT_LEAST(VALUE, 95)},

    {"sessions.idle", "an idle session, of the daemon's memory", "KiB", NULL, AT_MOST(VALUE, 24)},
    {"sessions.used", "one with a span, beyond its first 64 KiB", "KiB", NULL, STATED},
    {"sessions.shared", "an idle session, of the system's shared memory", "KiB", NULL, STATED},

    {"crowd.one", "one client: alloc + write + release", "/s", NULL, STATED},
    {"crowd.total", "64 clients, together", "/s", "one client", AT_LEAST(RATIO, 0.8)},
    {"crowd.slowest", "the slowest of them", "/s", "its fair share", AT_LEAST(RATIO, 0.5)},
    {"crowd.step", "one step of any of them", "us", NULL, STATED},

    {"threads.through-one", "one thread, write-through", "/s", NULL, STATED},
    {"threads.through", "8 threads of one client, together", "/s", "one thread", AT_LEAST(RATIO, 0.8)},
    {"threads.direct-one", "one thread, direct", "/s", NULL, STATED},
    {"threads.direct", "8 threads of one client, together", "/s", "one thread", AT_LEAST(RATIO, 0.8)},

    {"hostile.burner", "beside a process that only burns time", "us", "alone", STATED},
    {"hostile.burner-p99", "its p99", "us", "alone", STATED},
    {"hostile.refused", "requests that are refused, by 8 sockets", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.refused-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.malformed", "connections that send garbage", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.malformed-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.batches", "batches of 256 operations, by 8 sockets", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.batches-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.sessions", "sessions opened and closed", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.sessions-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.unread", "64 sessions that never read", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.unread-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.entries", "8 rings that are always full", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.entries-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.noise", "noise in the ring", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.noise-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.bells", "8 bells that ring without cease", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.bells-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.watches", "a bell with 20,000 watches", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.watches-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.spans", "spans of 32 MiB, again and again", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.spans-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.resets", "resets of 224 MiB, again and again", "us", "a burner", AT_MOST(RATIO, 2)},
    {"hostile.resets-p99", "its p99", "us", "a burner", AT_MOST(RATIO, 2)},

    {"idle.wakeups", "wakeups of a daemon with 100 idle sessions", "/s", NULL, AT_MOST(VALUE, 0)},
    {"idle.cpu", "its processor time", "us/s", NULL, STATED},

    {"drift.polled", "polled exchange again", "us", "the first", STATED},
    {"drift.socket", "SEQPACKET round trip again", "us", "the first", STATED},
    {"drift.mprotect", "mprotect cycle again", "us", "the first", STATED},
};
/* clang-format on */

const size_t rows_count = sizeof rows / sizeof rows[0];

const struct row *rows_find(const char *id)
{
    for (size_t i = 0; i < rows_count; i++) {
        if (strcmp(rows[i].id, id) == 0)
            return &rows[i];
    }
    abort(); /* a mistake of ours */
}

bool rows_matches(const struct row *row, const char *only)
{
    return only == NULL || strstr(row->id, only) != NULL;
}

bool rows_match_any(const char *prefix, const char *only)
{
    for (size_t i = 0; i < rows_count; i++) {
        if (strncmp(rows[i].id, prefix, strlen(prefix)) == 0 && rows_matches(&rows[i], only))
            return true;
    }
    return false;
}
