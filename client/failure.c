/* SPDX-License-Identifier: MIT */
#include "client/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "client/client.h"

_Static_assert((int)JITC_E_MALFORMED == (int)STATUS_MALFORMED && (int)JITC_E_FROZEN == (int)STATUS_FROZEN &&
                   (int)JITC_E_FROZEN + 1 == (int)STATUS_COUNT,
               "the daemon's statuses are passed on as they are");

/* As all that is a thread's own here: by the other model a signal handler's first look at it may allocate. */
static _Thread_local struct failure last __attribute__((tls_model("initial-exec")));

void failure_say(int status, const char *format, ...)
{
    int error = errno;
    va_list args;

    va_start(args, format);
    errno = error;
    (void)vsnprintf(last.detail, sizeof last.detail, format, args);
    va_end(args);
    errno = error;
    last.status = status;
}

void failure_note(struct failure *failure, const struct result *refusal)
{
    size_t name_bytes = strcspn(refusal->text, ":");

    failure->status = (int)refusal->status;
    (void)snprintf(failure->detail, sizeof failure->detail, "%s%s%s", refusal->field,
                   refusal->field[0] == '\0' ? "" : ": ", refusal->text);
    (void)snprintf(failure->instruction, sizeof failure->instruction, "%.*s", (int)name_bytes, refusal->text);
    failure->at = refusal->found;
}

int failure_tell(const struct failure *failure)
{
    last = *failure;
    return last.status;
}

const struct failure *failure_last(void)
{
    return &last;
}

const char *jitc_error_detail(void)
{
    return last.detail;
}

const void *jitc_error_forbidden(const jitc_client *client, const char **name)
{
    if (last.status != JITC_E_FORBIDDEN || last.at >= client->map.bytes)
        return NULL;
    if (name != NULL)
        *name = last.instruction;
    return client->map.rx + last.at;
}

const char *jitc_strerror(int status)
{
    static const struct {
        int status;
        const char *name;
    } names[] = {
        {JITC_OK, "success"},
        {JITC_E_MALFORMED, "malformed message"},
        {JITC_E_PROTOCOL, "protocol violated"},
        {JITC_E_VERSION, "no protocol version in common"},
        {JITC_E_UNKNOWN_OPERATION, "operation unknown to the daemon"},
        {JITC_E_UNKNOWN_FIELD, "field unknown to the daemon"},
        {JITC_E_REFUSED, "refused by policy"},
        {JITC_E_INVALID, "invalid argument"},
        {JITC_E_MISALIGNED, "misaligned offset"},
        {JITC_E_NO_SPAN, "no such span"},
        {JITC_E_OUT_OF_RANGE, "beyond the end of the span"},
        {JITC_E_SEALED, "span is sealed"},
        {JITC_E_MISMATCH, "bytes differ from the expected"},
        {JITC_E_TOO_LARGE, "too large for the arena"},
        {JITC_E_ARENA_FULL, "arena is full"},
        {JITC_E_QUOTA_SPANS, "quota of spans is used up"},
        {JITC_E_QUOTA_BYTES, "quota of code memory is used up"},
        {JITC_E_QUOTA_SESSIONS, "quota of sessions is used up"},
        {JITC_E_NO_MEMORY, "daemon is out of memory"},
        {JITC_E_HELLO_TIMEOUT, "said no Hello in time"},
        {JITC_E_STOPPING, "daemon is shutting down"},
        {JITC_E_FORBIDDEN, "forbidden instruction"},
        {JITC_E_FROZEN, "sealed arena of a restarted daemon"},
        {JITC_E_NO_BROKER, "no broker to connect to"},
        {JITC_E_DISCONNECTED, "disconnected from the broker"},
        {JITC_E_TIMEOUT, "no answer in time"},
        {JITC_E_FORKED, "client belongs to the parent process"},
        {JITC_E_FOREIGN_POINTER, "pointer is not into this arena"},
        {JITC_E_SYSTEM, "system call failed"},
        {JITC_E_BAD_REPLY, "broker's answer makes no sense"},
        {JITC_E_CALLBACK, "write callback gave up"},
        {JITC_E_NOT_NEAR, "no room near the wanted address"},
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].status == status)
            return names[i].name;
    }
    return "unknown status";
}
