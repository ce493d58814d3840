/* SPDX-License-Identifier: MIT */
#include "proto/admin.h"

#include <stdio.h>
#include <string.h>

#define LEVEL_MIN 3u

static const char *const levels[] = {"error", "warning", "notice", "info", "debug"};

#define LEVELS_COUNT (sizeof levels / sizeof levels[0])

bool admin_put(struct buffer *out, const Admin__Reply *part)
{
    size_t bytes = admin__reply__get_packed_size(part);

    if (bytes > out->capacity - out->used)
        return false;
    out->used += admin__reply__pack(part, out->bytes + out->used);
    return true;
}

/* What a verb takes beside itself. */
enum { TAKES_SESSION = 1, TAKES_OFFSET = 2, TAKES_LEVEL = 4 };

static const unsigned takes[] = {
    [ADMIN__VERB__STATUS] = 0,
    [ADMIN__VERB__SESSIONS] = 0,
    [ADMIN__VERB__OPERATIONS] = 0,
    [ADMIN__VERB__SPANS] = TAKES_SESSION,
    [ADMIN__VERB__CODE] = TAKES_SESSION | TAKES_OFFSET,
    [ADMIN__VERB__REVOKE] = TAKES_SESSION,
    [ADMIN__VERB__RELOAD] = 0,
    [ADMIN__VERB__LOG_LEVEL] = TAKES_LEVEL,
};

bool admin_validate(const Admin__Request *request, char *reason, size_t reason_bytes)
{
    /* Unsigned, as enums come from the wire as they are. */
    uint32_t verb = (uint32_t)request->verb;
    const char *what = NULL;
    unsigned taken;

    if (verb == ADMIN__VERB__NO_VERB || verb >= sizeof takes / sizeof takes[0]) {
        (void)snprintf(reason, reason_bytes, "verb %u is not known here", verb);
        return false;
    }
    taken = takes[verb];
    if (request->base.n_unknown_fields != 0)
        what = "a field that is not known here";
    else if ((request->session != 0) != ((taken & TAKES_SESSION) != 0))
        what = "session";
    else if (request->offset != 0 && (taken & TAKES_OFFSET) == 0)
        what = "offset";
    else if ((taken & TAKES_LEVEL) != 0 ? admin_level_name(request->level) == NULL : request->level != 0)
        what = "level";
    if (what == NULL)
        return true;
    (void)snprintf(reason, reason_bytes, "%s: missing, not taken by this verb, or out of its range", what);
    return false;
}

const char *admin_level_name(uint32_t level)
{
    return level >= LEVEL_MIN && level - LEVEL_MIN < LEVELS_COUNT ? levels[level - LEVEL_MIN] : NULL;
}

uint32_t admin_level(const char *name)
{
    for (uint32_t i = 0; i < LEVELS_COUNT; i++) {
        if (strcmp(levels[i], name) == 0)
            return LEVEL_MIN + i;
    }
    return 0;
}
