/* SPDX-License-Identifier: MIT */
/*
 * What a daemon tells its manager, in the words of sd_notify(3): lines of KEY=VALUE. Whoever wrote it may
 * have been taken over, so it is input like any other: what is not exactly that is refused whole.
 */
#ifndef DAEMON_NOTICE_H
#define DAEMON_NOTICE_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/shelf.h"

#define NOTICE_MAX_BYTES 4096u

struct notice {
    bool is_ready;               /* READY=1 */
    bool is_alive;               /* WATCHDOG=1 */
    bool stores;                 /* FDSTORE=1: the descriptors that came with it */
    bool removes;                /* FDSTOREREMOVE=1 */
    char name[SHELF_NAME_BYTES]; /* FDNAME=, which goes with these two */
};

/* `text` has room for a zero at its end. Keys that are not known are none of our business. */
bool notice_parse(struct notice *notice, char *text, size_t length);

#endif
