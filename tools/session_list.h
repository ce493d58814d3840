/* SPDX-License-Identifier: MIT */
/* The sessions of an answer: an end of each, and how many others it has. */
#ifndef TOOLS_SESSION_LIST_H
#define TOOLS_SESSION_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "tools/ask.h"

struct session_row {
    const Admin__End *end; /* its owner's; where that is gone, an executor's */
    unsigned executors;
};

struct session_list {
    struct session_row *rows; /* by their numbers */
    size_t count;
};

/* Of an answer that must outlive it. False without memory. */
bool session_list_init(struct session_list *list, const struct answer *answer);
void session_list_deinit(struct session_list *list);

#define SESSION_FLAGS_BYTES 64u
/* "sealed,ring" and the like; "-" for none. */
char *session_flags(char *to, const struct session_row *row);

/* As an object of JSON. */
void session_print_json(const char *key, const struct session_row *row);

#endif
